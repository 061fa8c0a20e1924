"""`harness run`: retrievers on collections, scored, with a record of each."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.interrupt import interruptible
from harness.cli.options import Json, Metrics, WithText


def run_command(
    retriever: Annotated[
        list[str] | None, typer.Option("--retriever", "-r", help="Retriever; repeat for several.")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            "-d",
            help="Collection: a name, an ir_datasets id, hf:…, mteb:TASK, PATH[/split]; or a suite. Repeatable. [mini]",
        ),
    ] = None,
    docs: Annotated[
        Path | None, typer.Option("--docs", help="Documents: TSV, CSV, JSON lines or TREC; with --queries and --qrels.")
    ] = None,
    queries: Annotated[Path | None, typer.Option("--queries", help="Their queries, or TREC topics.")] = None,
    qrels: Annotated[Path | None, typer.Option("--qrels", help="Their judgments: 3 or 4 columns.")] = None,
    collection_name: Annotated[
        str | None, typer.Option("--collection-name", help="What they are called. [the name of --docs]")
    ] = None,
    query_field: Annotated[
        str | None, typer.Option("--query-field", help="title, description, …, or title+description.")
    ] = None,
    doc_fields: Annotated[
        str | None, typer.Option("--doc-fields", help="Fields of a document, such as title,abstract.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML file with the same settings.")] = None,
    metric: Metrics = None,
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", help="Results kept for a query. [1000]")] = None,
    fields: Annotated[str | None, typer.Option("--fields", help="bm25: flat or multifield. [flat]")] = None,
    k1: Annotated[float | None, typer.Option("--k1", help="bm25: term-frequency saturation. [0.9]")] = None,
    b: Annotated[float | None, typer.Option("--b", help="bm25: length normalisation. [0.4]")] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="bm25: of the analyzer, such as de, ar, zh. [en]")
    ] = None,
    stemmer: Annotated[str | None, typer.Option("--stemmer", help="bm25: porter, krovetz or none. [porter]")] = None,
    stopwords: Annotated[
        str | None, typer.Option("--stopwords", help="bm25: default, none, or a file with a word a line. [default]")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="neural: folder or hub id of the weights.")
    ] = None,
    dense: Annotated[int | None, typer.Option("--dense", help="neural: width of the dense half; 0 for none.")] = None,
    lexical: Annotated[
        int | None, typer.Option("--lexical", help="neural: terms kept of a passage; 0 for none.")
    ] = None,
    pooling: Annotated[str | None, typer.Option("--pooling", help="neural: cls or mean.")] = None,
    similarity: Annotated[str | None, typer.Option("--similarity", help="neural: dot or cosine.")] = None,
    max_length: Annotated[
        int | None, typer.Option("--max-length", help="neural: tokens of a passage, and of a query.")
    ] = None,
    windows: Annotated[
        str | None, typer.Option("--windows", help="neural: TOKENS/STRIDE, such as 256/128, for long documents.")
    ] = None,
    query_length: Annotated[int | None, typer.Option("--query-length", help="neural: tokens of a query.")] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="neural: auto, compiled, torch or faiss. [auto]")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="neural: auto, cpu or cuda. [auto]")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="neural: auto, fp32 or bf16. [auto]")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE for any other option of a retriever.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="What the records of the one retriever go by. [its own; of a path the last part]"),
    ] = None,
    rerank: Annotated[
        str | None, typer.Option("--rerank", help="Cross-encoder, folder or hub id, that re-ranks each retriever.")
    ] = None,
    depth: Annotated[int | None, typer.Option("--depth", help="Documents of a query that are re-ranked. [100]")] = None,
    titles: Annotated[
        Path | None, typer.Option("--titles", help="Titles for a corpus without them: document id, tab, title.")
    ] = None,
    queries_with_text: WithText = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Of a suite: go on without the collections that are not here.")
    ] = False,
    results: Annotated[Path | None, typer.Option("--results", help="Where records are kept. [results]")] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads to use. [all cores]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Redo runs that are finished.")] = False,
    as_json: Json = False,
) -> None:
    """Run retrievers on collections, score them, and leave a record of each."""
    from harness.datasets.loose_files import identifier
    from harness.retrievers.errors import InputError
    from harness.retrievers.yaml_files import read_yaml
    from harness.runs.config import build, called, pairs, reranked_by, share_options

    values = read_yaml(config) if config else {}
    given: dict[str, Any] = {
        "datasets": dataset,
        "metrics": metric,
        "top_k": top_k,
        "titles": titles,
        "query_field": query_field,
        "doc_fields": doc_fields,
        "results": results,
        "threads": threads,
    }
    files = {"docs": docs, "queries": queries, "qrels": qrels, "name": collection_name}
    if any(value is not None for value in files.values()):
        loose = identifier({name: value for name, value in files.items() if value is not None})
        given["datasets"] = [*(dataset or []), loose]
    values |= {name: value for name, value in given.items() if value is not None}
    asked_for = {"force": force, "queries_with_text": queries_with_text, "skip_missing": skip_missing}
    values |= {name: True for name, asked in asked_for.items() if asked}
    flags: dict[str, Any] = {
        "fields": fields,
        "k1": k1,
        "b": b,
        "language": language,
        "stemmer": stemmer,
        "stopwords": stopwords,
        "checkpoint": checkpoint,
        "dense": dense,
        "lexical": lexical,
        "pooling": pooling,
        "similarity": similarity,
        "max_length": max_length,
        "windows": windows,
        "query_length": query_length,
        "engine": engine,
        "device": device,
        "precision": precision,
    }
    options = {name: value for name, value in flags.items() if value is not None}
    others = pairs(option or [])
    if twice := sorted(options.keys() & others.keys()):
        raise InputError(f"{', '.join(twice)}: given by its own flag and by --option. Give it once.")
    options |= others
    if retriever:
        values["retrievers"] = reranked_by(rerank, depth, called(name, share_options(retriever, options)))
    elif name is not None:
        raise InputError("--name needs --retriever; in a --config write `called: NAME` under a retriever.")
    elif rerank is not None or depth is not None:
        raise InputError("--rerank and --depth need --retriever; in a --config they are written under a retriever.")
    elif options:
        raise InputError(
            f"{', '.join(options)}: options of a retriever need --retriever; in a --config they are written there."
        )
    if "retrievers" not in values and config is None:
        raise InputError(
            "no retriever named. Give --retriever NAME or --config FILE; `harness list retrievers` shows them."
        )

    from harness.cli.console import outcomes_table
    from harness.runs.record_store import Outcome
    from harness.runs.suites import SuiteMean, conduct
    from harness.runtime.processes import Processes

    asked = build(values, str(config) if config else "harness run")
    finished: list[Outcome | SuiteMean] = []
    try:
        with interruptible("finished runs are kept"):
            team = Processes.launched()  # before a retriever looks for its device
            for outcome in conduct(asked, ["harness", *sys.argv[1:]], team):
                finished.append(outcome)
    finally:
        if finished:
            outcomes_table(finished, as_json)
