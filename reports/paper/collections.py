"""The collections of the paper's tables: what a record's data must be to stand in a column."""

from dataclasses import dataclass

from harness.reports.records.records import Data

# Documents, queries and judgments are those of ir_datasets' own metadata for these ids, and equal Table 1 of BEIR
# (Thakur et al. 2021, arXiv:2104.08663) where both have them. Of the four licensed collections BEIR's Table 1 alone
# says how large they are.
LICENSED = "licensed: it is not distributed freely"


@dataclass(frozen=True)
class Collection:
    """A column's collection as the field knows it; None where no source says."""

    name: str  # as the paper's tables print it
    dataset_id: str
    documents: int
    queries: int
    judgments: int | None
    titles: bool | None = True  # whether the published corpus carries titles
    licensed: bool = False
    drop_self: bool = False
    parts: int = 0  # collections whose means are averaged


def _named(*collections: Collection) -> dict[str, Collection]:
    return {collection.name: collection for collection in collections}


_MSMARCO = 8_841_823
COLLECTIONS = _named(
    Collection("MS MARCO Dev", "msmarco-passage/dev/small", _MSMARCO, 6_980, 7_437),
    Collection("DL'19", "msmarco-passage/trec-dl-2019/judged", _MSMARCO, 43, 9_260),
    Collection("DL'20", "msmarco-passage/trec-dl-2020/judged", _MSMARCO, 54, 11_386),
    Collection("TREC-COVID", "beir/trec-covid", 171_332, 50, 66_336),
    Collection("BioASQ", "beir/bioasq", 14_914_602, 500, None, None, licensed=True),
    Collection("NFCorpus", "beir/nfcorpus/test", 3_633, 323, 12_334),
    Collection("NQ", "beir/nq", 2_681_468, 3_452, 4_201),
    Collection("HotpotQA", "beir/hotpotqa/test", 5_233_329, 7_405, 14_810),
    Collection("FiQA-2018", "beir/fiqa/test", 57_638, 648, 1_706, titles=False),
    Collection("Signal-1M(RT)", "beir/signal1m", 2_866_316, 97, None, None, licensed=True),
    Collection("TREC-NEWS", "beir/trec-news", 594_977, 57, None, None, licensed=True),
    Collection("Robust04", "beir/robust04", 528_155, 249, None, None, licensed=True),
    Collection("ArguAna", "beir/arguana", 8_674, 1_406, 1_406, drop_self=True),
    Collection("Touche-2020", "beir/webis-touche2020/v2", 382_545, 49, 2_214),
    Collection("CQADupStack", "beir/cqadupstack", 457_199, 13_145, 23_703, parts=12),
    Collection("Quora", "beir/quora/test", 522_931, 10_000, 15_675, titles=False, drop_self=True),
    Collection("DBPedia", "beir/dbpedia-entity/test", 4_635_922, 400, 43_515),
    Collection("SCIDOCS", "beir/scidocs", 25_657, 1_000, 29_928),
    Collection("FEVER", "beir/fever/test", 5_416_568, 6_666, 7_937),
    Collection("Climate-FEVER", "beir/climate-fever", 5_416_593, 1_535, 4_681),
    Collection("SciFact", "beir/scifact/test", 5_183, 300, 339),
)


def against(wanted: Collection, data: Data, stand_in: bool = False) -> list[str]:
    """Why scores on `data` cannot stand beside published ones on `wanted`; empty where nothing is against it.

    `stand_in` says that the caller put another collection in its place, which is then all there is to say.
    """
    if stand_in:
        return [f"other corpus ({data.name})"]
    reasons = []
    counts = data.counts
    if "documents" not in counts:
        return [f"corpus not looked at ({data.name})"]
    # what was tolerated counts as it was published: identical rows twice, judged queries whose text is missing
    found = {
        "documents": counts["documents"] + counts["duplicate_documents"],
        "queries": counts["queries"] + counts["judged_queries_without_text"],
        "judgments": counts["judgments"] + counts["duplicate_judgments"],
    }
    known = {"documents": wanted.documents, "queries": wanted.queries, "judgments": wanted.judgments}
    if odd := [
        f"{found[what]:,} {what}, not {number:,}"
        for what, number in known.items()
        if number is not None and found[what] != number
    ]:
        reasons.append(f"other corpus ({'; '.join(odd)})")
    if wanted.titles and data.rules.titles.startswith("none"):
        reasons.append("no titles")
    if data.rules.drop_self != wanted.drop_self:
        reasons.append(f"other rules (a query's own document is {'dropped' if data.rules.drop_self else 'kept'})")
    if len(data.rules.mean_of) != wanted.parts:
        reasons.append(f"other rules (a mean over {len(data.rules.mean_of)} parts, not {wanted.parts})")
    return reasons
