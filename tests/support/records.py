"""Records as a run would leave them, with a manifest that says what a test wants it to say."""

from harness.reports.paper.collections import COLLECTIONS
from harness.reports.records import records
from harness.reports.records.records import AppliedRules, Cost, Data, Manifest, PaperRow, System

BOTH = "CLS and OT decoding"
MSMARCO = {
    "pretrained_on": ["kilt", "corpora/bookcorpus", "msmarco-passage"],
    "finetuned_on": ["msmarco-passage/train/judged"],
}
FULL = {"layers": 12, "hidden": 768, "vocabulary": 30_522}


def system(dense=384, lexical=384, tasks=BOTH, name="DupMAE", model=FULL, claims=(), stage=None, **trained):
    said = {"kind": "finetune", "negatives": 15, "pretraining": tasks, **MSMARCO, "finetuned_as": [dense, lexical]}
    said = {key: value for key, value in (said | trained).items() if value is not None} if tasks else {}
    return System(
        retriever="anything",
        system=name,
        stage=stage,
        variant=None,
        paper_rows=tuple(PaperRow(table=table, row=row) for table, row in claims),
        options={"dense": dense, "lexical": lexical, "pooling": "cls", "similarity": "dot", "titles": True},
        checkpoint="x",
        checkpoint_hash="x",
        seed=None,
        bytes_per_document=None,
        bytes_per_document_paper=None,
        trained=said,
        model=model,
    )


def data(collection, titles="in the corpus", drop_self=None, mean_of=None, **counts):
    known = {"documents": collection.documents, "queries": collection.queries, "judgments": collection.judgments or 1}
    nothing = dict.fromkeys(("duplicate_documents", "duplicate_judgments", "judged_queries_without_text"), 0)
    return Data(
        name="n",
        dataset_id=collection.dataset_id,
        source="folder",
        location="",
        counts=nothing | known | counts,
        corpus_hash="",
        queries_hash="",
        qrels_hash="",
        rules=AppliedRules(
            drop_self=collection.drop_self if drop_self is None else drop_self,
            binary_level=1,
            mean_of=("x",) * (collection.parts if mean_of is None else mean_of),
            source="",
            titles=titles,
            titles_hash=None,
        ),
    )


def bm25():
    return system(name="BM25", tasks=None, claims=[(2, "BM25")])


def write(folder, who, where, values, created="2026-01-01T00:00:00+00:00", parts=(), mean=None):
    """Write a record of `values`, {metric: {query id: value}}; `mean` is {metric: mean} where it is another."""
    query_ids = list(next(iter(values.values())))
    columns = {metric: [found[query] for query in query_ids] for metric, found in values.items()}
    means = {metric: sum(column) / len(column) for metric, column in columns.items()} | (mean or {})
    with records.writing(folder) as new:
        (new / records.RUN).write_bytes(b"")
        records.write_scores(new, query_ids, columns, means)
        records.write_manifest(
            new,
            Manifest(
                schema_version=records.SCHEMA_VERSION,
                created=created,
                command=[],
                config={},
                system=who,
                data=where,
                top_k=1000,
                top_k_searched=1000,
                cost=Cost(hardware={}, seconds={}, peak_memory_bytes=0, queries_per_second=None),
                packages={},
                git_commit=None,
                warnings=[],
                parts=list(parts),
                files={},
            ),
        )
    return records.read(folder)


def around(mean, spread=0.2, count=40):
    """Values of `count` queries whose mean is `mean`: half above, half below."""
    return {f"q{n}": mean + (spread if n % 2 else -spread) for n in range(count)}


def on(name, mean, metric="NDCG@10"):
    """What `write` takes for a collection of the paper: its data, and one metric's values."""
    return data(COLLECTIONS[name]), {metric: around(mean)}
