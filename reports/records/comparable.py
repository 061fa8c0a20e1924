"""Which records may stand side by side: those of one collection, of runs that reach as deep as the metric looks."""

import gzip
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from harness.reports.records.labels import label
from harness.reports.records.records import RUN, Data, Record

_FEWEST = 10  # queries with results, before their number says that a run was cut


def differences(a: Data, b: Data) -> list[str]:
    """In what two collections differ, as far as it decides a run or its scores; empty where they are one."""
    return [
        f"{name} ({one} against {other})"
        for name, one, other in (
            ("corpus", *_if(knows_corpus, a, b, a.corpus_hash[:10], b.corpus_hash[:10])),
            ("titles", *_if(knows_corpus, a, b, a.rules.titles, b.rules.titles)),
            ("queries", *_if(knows_queries, a, b, a.queries_hash[:10], b.queries_hash[:10])),
            ("judgments", a.qrels_hash[:10], b.qrels_hash[:10]),
            ("queries_with_text", a.rules.queries_with_text, b.rules.queries_with_text),
            ("drop_self", a.rules.drop_self, b.rules.drop_self),
            ("binary_level", a.rules.binary_level, b.rules.binary_level),
            ("mrr_level", a.rules.mrr_level, b.rules.mrr_level),
        )
        if one != other
    ]


def knows_corpus(data: Data) -> bool:
    """Whether anything was known of the corpus when the record was made."""
    return "documents" in data.counts


def knows_queries(data: Data) -> bool:
    """Whether the queries had texts; of judgments alone the ids are known, and the judgments say them."""
    return data.source != "judgments"


def _if(known: Callable[[Data], bool], a: Data, b: Data, one: str, other: str) -> tuple[str, str]:
    """What two say of something; nothing where one of them does not know it."""
    return (one, other) if known(a) and known(b) else ("", "")


def without_corpus(found: Sequence[Record]) -> str | None:
    """The warning where a record knows no corpus; None where all know theirs."""
    lacking = [record for record in found if not knows_corpus(record.manifest.data)]
    if not lacking:
        return None
    names = ", ".join(label(record.manifest) for record in lacking[:2]) + (" …" if len(lacking) > 2 else "")
    by = "judgments" if not all(knows_queries(record.manifest.data) for record in found) else "queries and judgments"
    return f"the corpus of {names} is unknown; only the {by} show that the runs belong to one collection"


def unlike(found: Sequence[Record]) -> str | None:
    """What is wrong where records are not of one collection, its titles, queries, judgments and rules included."""
    for other in found[1:]:
        if parts := differences(found[0].manifest.data, other.manifest.data):
            return (
                f"{_called(found[0])} and {_called(other)} are not of one collection. They differ in "
                f"{', '.join(parts)}."
            )
    return None


def unlike_of_a_name(found: Iterable[Record]) -> list[str]:
    """`unlike` of the records of each name that a collection goes by."""
    groups: dict[str, list[Record]] = {}
    for record in found:
        groups.setdefault(record.manifest.data.name, []).append(record)
    return [fault for group in groups.values() if (fault := unlike(group))]


def _called(record: Record) -> str:
    return f"{record.folder} ({record.manifest.data.name})"


def cut_at(counts: Sequence[int]) -> int | None:
    """At how many results a run was cut, by those of each query; None where nothing says that it was.

    Most of ten queries or more must have exactly as many.
    """
    some = [count for count in counts if count]
    for count in set(some) if len(some) >= _FEWEST else ():
        if 2 * some.count(count) > len(some):
            return count
    return None


def looks_to(metric: str) -> int | None:
    """The rank to which a metric looks, by its name; None where it looks at all results, as MAP without a cutoff."""
    found = re.search(r"@(\d+)$", metric)
    return int(found[1]) if found else None


def depth(record: Record, cutoff: int | None) -> int | None:
    """How many results of a query a record's run has, where `cutoff` looks deeper; None where that is deep enough.

    Without a cutoff nothing is deep enough. Of a run of ours this is `top_k`; of one that was given, what `cut_at`
    says, unless the corpus has no more; of a fusion, that of its deepest part.
    """
    manifest = record.manifest
    known = [manifest.top_k]
    if (file := manifest.system.file) is not None:
        cut = file.cut_at if "cut_at" in file.model_fields_set else cut_at(_counts(record))
        known += [cut] if cut and cut < manifest.data.counts.get("documents", cut + 1) else []
    if parts := [part.cut_at for part in manifest.system.fused]:  # as deep as the deepest of them
        known += [max(cut for cut in parts if cut)] if all(parts) else []
    return min(known) if cutoff is None or min(known) < cutoff else None


def _counts(record: Record) -> list[int]:
    """Results of each query, from the record's run."""
    with gzip.open(record.folder / RUN, "rb") as file:
        return list(Counter(line.split(maxsplit=1)[0] for line in file).values())


def unlike_depths(found: Sequence[Record], metric: str) -> str | None:
    """What is wrong where the metric looks deeper into the run of one record than into that of another."""
    cutoff = looks_to(metric)
    first = depth(found[0], cutoff)
    for record in found[1:]:
        if (other := depth(record, cutoff)) != first:
            return (
                f"{found[0].folder} {_reach(first)} and {record.folder} {_reach(other)}, so {metric} is not the same "
                f"of both. Choose a metric up to rank {min(d for d in (first, other) if d):,}, or mark the shallow by "
                "--allow-shallow."
            )
    return None


def marked(text: str, depth: int | None) -> str:
    """A name or a value, marked where its run is shallow."""
    return text if depth is None else f"{text} (cut at {depth:,})"


def _reach(depth: int | None) -> str:
    return "goes deep enough" if depth is None else f"was cut at {depth:,} results of a query"
