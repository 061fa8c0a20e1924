"""Runs as other libraries hold them: ranx, pandas, dictionaries; and back."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.retrievers.errors import InputError
from harness.retrievers.ids import checked
from harness.retrievers.types import Run

if TYPE_CHECKING:
    import pandas
    import ranx

COLUMNS = ("query_id", "document_id", "rank", "score")
# the names that other tools give them: PyTerrier, ranx, trec_eval's readers
_SYNONYMS = {
    "query_id": ("query_id", "qid", "q_id", "query"),
    "document_id": ("document_id", "doc_id", "docno", "docid", "pid"),
    "score": ("score",),
}


def aligned(run: Run, query_ids: Sequence[str]) -> Run:
    """`run` with exactly these queries in this order: one that it lacks has no results, any other is left out."""
    place = {query_id: number for number, query_id in enumerate(run.query_ids)}
    rows = [
        run.rows(place[query_id]) if query_id in place else (run.doc_ids[:0], run.scores[:0]) for query_id in query_ids
    ]
    offsets = np.concatenate(([0], np.cumsum([len(ids) for ids, _ in rows]))).astype(np.int64)
    return Run(
        tuple(query_ids),
        offsets,
        np.concatenate([run.doc_ids[:0], *(ids for ids, _ in rows)]),
        np.concatenate([run.scores[:0], *(scores for _, scores in rows)]),
    )


def to_dict(run: Run) -> dict[str, dict[str, float]]:
    """{query id: {document id: score}}, best first; the scores are the float32 ones."""
    found = {}
    for number, query_id in enumerate(run.query_ids):
        doc_ids, scores = run.rows(number)
        found[query_id] = dict(zip((doc_id.decode() for doc_id in doc_ids.tolist()), scores.tolist(), strict=True))
    return found


def to_frame(run: Run) -> "pandas.DataFrame":
    """One row a result: query_id, document_id, rank (from 1) and score (float32), in the run's order."""
    import pandas

    counts = np.diff(run.offsets)
    rank = np.arange(len(run.doc_ids)) - np.repeat(run.offsets[:-1], counts) + 1
    query_ids = np.repeat(np.array(run.query_ids, dtype=object), counts)
    doc_ids = [doc_id.decode() for doc_id in run.doc_ids.tolist()]
    columns = (query_ids, doc_ids, rank, run.scores.copy())
    return pandas.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def to_ranx(run: Run, name: str = "run") -> "ranx.Run":
    """ranx's Run. Queries without results are kept; ranx orders ties as it likes.

    Raises InputError for a run without any result, which ranx cannot hold.
    """
    import ranx

    if not len(run.doc_ids):
        raise InputError("a run without any result cannot be a ranx Run.")
    return ranx.Run(to_dict(run), name=name)


def of_any(found: Any) -> Run:
    """A run from a Run, a ranx Run, a DataFrame or {query id: {document id: score}}.

    Raises InputError for anything else, for a DataFrame that lacks a column or an id, or as `Run.of`.
    """
    if isinstance(found, Run):
        return found
    if isinstance(found, Mapping):
        return Run.of(found)
    kind = f"{type(found).__module__}.{type(found).__qualname__}".removeprefix(
        "builtins."
    )  # neither is imported to ask
    if kind.startswith("pandas.") and kind.endswith(".DataFrame"):
        return _of_frame(found)
    if kind.startswith("ranx.") and kind.endswith(".Run"):
        return Run.of(_of_ranx(found))
    judgments = ", but judgments" if kind.endswith(".Qrels") else ""
    raise InputError(
        f"a {kind} is no run{judgments}. Give a harness.Run, a ranx.Run, a pandas.DataFrame with "
        "query_id, document_id and score, {query id: {document id: score}}, or the path of a TREC file."
    )


def _of_ranx(found: "ranx.Run") -> dict[str, dict[str, float]]:
    """The dictionary that a ranx Run was made from; as ranx gives it back, unless that has lost letters of its ids."""
    try:
        run: dict[str, dict[str, float]] = found.to_dict()
        if all(len(run[query_id]) == len(found.run[query_id]) for query_id in run):
            return run
    except KeyError:  # of an id without its last letter
        pass
    from harness.retrievers.run_files import ranx_keys

    return ranx_keys.rows(found)


def _of_frame(frame: "pandas.DataFrame") -> Run:
    names = {}
    for wanted, synonyms in _SYNONYMS.items():
        here = [name for name in synonyms if name in frame.columns]
        if not here:
            others = f" (or {', '.join(synonyms[1:])})" if synonyms[1:] else ""
            there = ", ".join(map(str, frame.columns)) or "none"
            raise InputError(f"the DataFrame has no column {wanted}{others}; there is {there}.")
        if frame.columns.tolist().count(here[0]) > 1:
            raise InputError(f"the DataFrame has two columns {here[0]}. Keep one.")
        names[wanted] = here[0]
    found: dict[str, list[tuple[str, float]]] = {}
    columns = (frame[names[wanted]].tolist() for wanted in ("query_id", "document_id", "score"))
    for number, (query_id, doc_id, score) in enumerate(zip(*columns, strict=True)):
        query = checked(query_id, f"row {number} of the DataFrame: the query id")
        found.setdefault(query, []).append((checked(doc_id, f"row {number} of the DataFrame: the document id"), score))
    return Run.of(found)
