"""The harness as a library. What these functions record is what the command line records, under the same names.

Wrong input raises InputError (`harness.retrievers.errors`), RecordError (`harness.reports.errors`) or CheckpointError
(`harness.models.errors`). All three are ValueErrors.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from harness.analysis.comparison import Compared, compare_records
from harness.reports.records import records
from harness.reports.records.records import Record
from harness.retrievers.errors import InputError
from harness.retrievers.places import cache, expanded, prepare
from harness.retrievers.rerank import DEPTH
from harness.runs import arguments
from harness.runs.asked import Asks, asked
from harness.runs.config import RunConfig, build, reranked_by
from harness.runs.external import given, judged_by, label_of, one_dataset, score_given
from harness.runs.from_files import records_of
from harness.runs.fusion import LABEL, fuse_parts, recipe
from harness.runs.mteb_model import MtebModel, model_of
from harness.runs.results import Ranking, Result
from harness.runs.runner import iterate
from harness.runs.searches import Search, Searches
from harness.runs.tuning import Tuned
from harness.runs.tuning import tune as tune_by
from harness.runtime.caller import leaves_no_trace
from harness.runtime.job import HarnessJob
from harness.runtime.processes import Processes

__all__ = [
    "Ranking", "Result", "Tuned", "compare", "export", "fuse", "mteb", "read", "retrieve", "run", "score", "tune",
]  # fmt: skip
_Folder = str | Path

with contextlib.suppress(InputError):  # of no home at all, which is said when something is to be kept
    prepare()  # before ir_datasets and huggingface_hub are imported, whose homes they are


@overload
def run(
    retriever: Asks,
    dataset: _Folder = "mini",
    *,
    name: str | None = None,
    version: str | None = None,
    rerank: str | None = None,
    depth: int = DEPTH,
    metrics: Sequence[str] | None = None,
    top_k: int = 1000,
    results: _Folder = "results",
    titles_file: _Folder | None = None,
    queries_with_text: bool = False,
    threads: int | None = None,
    force: bool = False,
    distributed: Literal[False] = False,
    **options: Any,
) -> Result: ...


@overload
def run(
    retriever: Asks,
    dataset: _Folder = "mini",
    *,
    name: str | None = None,
    version: str | None = None,
    rerank: str | None = None,
    depth: int = DEPTH,
    metrics: Sequence[str] | None = None,
    top_k: int = 1000,
    results: _Folder = "results",
    titles_file: _Folder | None = None,
    queries_with_text: bool = False,
    threads: int | None = None,
    force: bool = False,
    distributed: bool,
    **options: Any,
) -> Result | None: ...


@leaves_no_trace
def run(
    retriever: Asks,
    dataset: _Folder = "mini",
    *,
    name: str | None = None,
    version: str | None = None,
    rerank: str | None = None,
    depth: int = DEPTH,
    metrics: Sequence[str] | None = None,
    top_k: int = 1000,
    results: _Folder = "results",
    titles_file: _Folder | None = None,
    queries_with_text: bool = False,
    threads: int | None = None,
    force: bool = False,
    distributed: bool = False,
    **options: Any,
) -> Result | None:
    """`harness run`: run a retriever on a collection, score it, leave a record; a finished one is found.

    `options` are the retriever's own (`checkpoint=`, `pooling=`, `k1=` …). With `rerank`, a cross-encoder, the first
    stage has a record of its own, and the re-ranked one is returned. Of a mean of collections (`beir/cqadupstack`) the
    mean is returned, and each has its record.

    `retriever` may also be a function of (queries, corpus, k), a PyTerrier transformer or a `Retriever` (docs/runs.md).
    Records go by `name`, a word, else its own; a function's are found again only if `version` names its state.

    With `distributed` the processes that torchrun started do the search together: each must make the same call, and
    rank 0 returns the record, the others None. Without it this process works alone, also inside somebody's torchrun.
    """
    found = asked(retriever, options, name, version)
    [spec] = reranked_by(rerank, None if rerank is None else depth, [found.spec])
    config = _config(
        [spec],
        dataset,
        metrics,
        top_k,
        results,
        titles_file=titles_file,
        queries_with_text=queries_with_text,
        threads=threads,
        force=force,
    )
    said = {"name": spec.called, "rerank": rerank, "depth": depth if rerank else None, "top_k": top_k}
    words = _words(said | options)
    team = Processes.launched() if distributed else None
    made = list(iterate(config, ["harness.run", spec.name, str(dataset), *words], team, found.own))
    return Result(made[-1].record) if made else None


@leaves_no_trace
def retrieve(
    retriever: Asks,
    dataset: _Folder = "mini",
    queries: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
    top_k: int = 1000,
    titles_file: _Folder | None = None,
    queries_with_text: bool = False,
    threads: int | None = None,
    **options: Any,
) -> Ranking:
    """Search a collection without scoring or recording: its judged queries, or others, {query id: text}.

    `retriever` is as in `run`, `options` are its own. What is derived from the corpus (index, vectors) is kept
    and found again.
    """
    found = asked(retriever, options, name)
    config = _config(
        [found.spec],
        dataset,
        None,
        top_k,
        "results",
        titles_file=titles_file,
        queries_with_text=queries_with_text,
        threads=threads,
    )
    made = found.retriever
    collection = one_dataset(config.datasets[0], config.titles, config.queries_with_text)
    made.check()
    job = HarnessJob(cache(), config.threads)
    job.tell(made.notice)
    collection.open(job)
    if queries is not None:
        collection.queries = arguments.queries(queries)
    search = Search(found.spec, made, collection)
    return Ranking(found.spec.label, Searches(config, [search], job).run(search))


@leaves_no_trace
def mteb(
    retriever: Asks, *, name: str | None = None, version: str | None = None, threads: int | None = None, **options: Any
) -> MtebModel:
    """A retriever as a model for `mteb.evaluate(model, tasks=[…])`: it indexes and searches, and mteb scores.

    `retriever`, `name`, `version` and `options` are as in `run`; they are the name and the revision under which mteb
    keeps results. Needs the package mteb.

    Raises InputError where that is not installed, and for tasks that are not plain retrieval of texts.
    """
    found = asked(retriever, options, name, version)
    return model_of(found.spec.label, found.retriever, threads)


@leaves_no_trace
def score(
    run: Any,
    dataset: _Folder | None = None,
    *,
    qrels: _Folder | None = None,
    check_documents: bool = False,
    name: str | None = None,
    metrics: Sequence[str] | None = None,
    top_k: int = 1000,
    results: _Folder = "results",
    titles_file: _Folder | None = None,
    queries_with_text: bool = False,
    force: bool = False,
) -> Result:
    """`harness score`: score a run that was made elsewhere by our rules, and leave a record that says so.

    `run` is the path of a run file, a Ranking, a `harness.retrievers.types.Run`, a ranx Run, a pandas DataFrame
    (query_id, document_id, score, or the names that PyTerrier and ranx have for them) or {query id: {document id:
    score}}. `name` is what the record goes by; without it the file's tag. It is scored by the judgments of `dataset`
    (without it `mini`), whose corpus is not read unless `check_documents`; or by those of the file `qrels`.
    """
    judged = judged_by(_named(dataset, "dataset"), _named(qrels, "qrels"), check_documents) or "mini"
    found = given(run.run if isinstance(run, Ranking) else run)
    label = label_of(name or (run.name if isinstance(run, Ranking) else None), found)
    config = _config(
        [label],
        judged,
        metrics,
        top_k,
        results,
        titles_file=titles_file,
        queries_with_text=queries_with_text,
        force=force,
    )
    command = ["harness.score", found.file.location, judged, *_words({"name": name, "top_k": top_k})]
    return Result(score_given(config, found, command, check_documents).record)


@leaves_no_trace
def fuse(
    *runs: Any,
    method: str = "rrf",
    k: int | None = None,
    weights: Sequence[float] | None = None,
    norm: str | None = None,
    absent: str | None = None,
    dataset: _Folder | None = None,
    qrels: _Folder | None = None,
    metrics: Sequence[str] | None = None,
    top_k: int = 1000,
    queries_with_text: bool = False,
    results: _Folder = "results",
    force: bool = False,
) -> Result:
    """`harness fuse`: fuse runs of one collection and leave a record that names its parts.

    Each of `runs` is a Result, a record's folder, or what `score` takes; where none is a record, `dataset` names the
    collection, or `qrels` a file of judgments. `method` is rrf (`k`, 60 unless given) or weighted (`weights`, `norm`,
    `absent`); see `harness.retrievers.run_files.fusion`.
    """
    how = recipe(method, k, weights, norm, absent)
    parts = [one.record if isinstance(one, Result) else one.run if isinstance(one, Ranking) else one for one in runs]
    judged = judged_by(_named(dataset, "dataset"), _named(qrels, "qrels"))
    config = _config(
        [LABEL], judged or "mini", metrics, top_k, results, queries_with_text=queries_with_text, force=force
    )
    words = [str(one.folder) if isinstance(one, Record) else str(one)[:200] for one in parts]
    command = ["harness.fuse", *words, *_words(how.options)]
    return Result(fuse_parts(parts, how, config, command, judged).record)


@leaves_no_trace
def tune(
    retriever: str | Sequence[str],
    dataset: _Folder,
    evaluate: _Folder | Sequence[_Folder] = (),
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    by: str = "NDCG@10",
    step: float | None = None,
    norm: str | None = None,
    metrics: Sequence[str] | None = None,
    top_k: int = 1000,
    queries_with_text: bool = False,
    results: _Folder = "results",
    threads: int | None = None,
    **options: Any,
) -> Tuned:
    """`harness tune`: options of one retriever, or the weights of several's fusion, chosen on one split for others.

    Each value of `grid`, {option: values} (for bm25 k1 and b unless said), is run on `dataset`; of several retrievers
    each weighting in steps of `step` (0.1), their scores normalised by `norm` (min-max). The best by the metric `by` is
    run on each collection of `evaluate`: `.results` has those records, `.chosen` the best values, `.to_frame()` the
    whole grid. `options` stay as they are. Raises InputError where a collection of `evaluate` shares a judged query
    with `dataset`.
    """
    names = [retriever] if isinstance(retriever, str) else list(retriever)
    several = [evaluate] if isinstance(evaluate, str | os.PathLike) else list(evaluate)
    chooses = os.fspath(dataset)
    config = _config(
        names, chooses, metrics, top_k, results, queries_with_text=queries_with_text, threads=threads
    ).model_copy(update={"datasets": [os.fspath(one) for one in several]})
    words = _words({"by": by, "step": step, "norm": norm} | options)
    command = ["harness.tune", *names, chooses, *words]
    return tune_by(names, chooses, by, config, command, grid=grid, fixed=options, step=step, norm=norm)


@leaves_no_trace
def compare(
    baseline: Any,
    *others: Any,
    metric: str = "NDCG@10",
    dataset: _Folder | None = None,
    qrels: _Folder | None = None,
    permutations: int = 100_000,
    seed: int = 42,
    allow_shallow: bool = False,
) -> Compared:
    """`harness compare`: other runs against a baseline, query by query, in one metric.

    A run is a Result, a record's folder, or what `score` takes; the latter is scored by the judgments of `dataset` or
    of the file `qrels`, or of the first record where neither is named, and leaves no record.
    `significance.systems` has of each other system the mean difference, its interval, p by paired t-test and by
    randomisation, both corrected for several systems, and the queries won, tied and lost. Raises InputError where
    the records are of different collections or rules, one lacks the metric, or one's run was cut before the metric's
    rank and another's was not (`allow_shallow` marks it instead).
    """
    every = [
        one.record if isinstance(one, Result) else one.run if isinstance(one, Ranking) else _folder_or_file(one)
        for one in (baseline, *others)
    ]
    by = (_named(dataset, "dataset"), _named(qrels, "qrels"))
    with records_of(every, Path("results"), [metric], *by) as found:
        return compare_records(found, metric, permutations, seed, allow_shallow=allow_shallow)


def _folder_or_file(found: Any) -> Any:
    """A record for its folder, read; else as it is: a file, an object in memory, or a record's name under `results`."""
    is_folder = isinstance(found, Path) or (isinstance(found, str) and "\0" not in found and expanded(found).is_dir())
    return read(found).record if is_folder and not expanded(found).is_file() else found


def _named(value: Any, what: str) -> str | None:
    """The words for a collection or a file. Raises InputError for what is neither."""
    if value is not None and not isinstance(value, str | os.PathLike):
        raise InputError(
            f"{what} is {value!r:.60}; want {'the path of a file' if what == 'qrels' else 'a name or a path'}."
        )
    return None if value is None else str(value)


def read(folder: _Folder) -> Result:
    """The record in `folder`, as `run`, `score` and `fuse` return it. Raises RecordError where there is none whole."""
    return Result(records.read(arguments.path(folder, "a record's folder")))


@leaves_no_trace
def export(checkpoint: _Folder, folder: _Folder, *, float16: bool = False) -> Path:
    """`harness export`: write the dense half of a trained checkpoint as a sentence-transformers folder.

    With `float16` the whole checkpoint in our own layout, its weights in 16 bits. Raises CheckpointError as
    `harness.models.checkpoints.export_dense.export_dense` and
    `harness.models.checkpoints.export_float16.export_float16`.
    """
    from harness.models.checkpoints import hub
    from harness.models.checkpoints.export_dense import export_dense
    from harness.models.checkpoints.export_float16 import export_float16

    place = arguments.path(folder, "folder")
    (export_float16 if float16 else export_dense)(hub.locate(str(checkpoint)), place)
    return place


def _config(
    retrievers: Sequence[Any],
    dataset: _Folder,
    metrics: Sequence[str] | None,
    top_k: int,
    results: _Folder,
    *,
    titles_file: _Folder | None = None,
    queries_with_text: bool = False,
    threads: int | None = None,
    force: bool = False,
) -> RunConfig:
    values = {
        "retrievers": list(retrievers),
        "datasets": [os.fspath(dataset) if isinstance(dataset, os.PathLike) else dataset],
        "metrics": None if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics),
        "top_k": arguments.plain(top_k),
        "results": arguments.path(results, "results"),
        "titles": None if titles_file is None else Path(titles_file),
        "queries_with_text": arguments.plain(queries_with_text),
        "threads": arguments.plain(threads),
        "force": arguments.plain(force),
    }
    return build(values, "harness")


def _words(options: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in options.items() if value is not None]
