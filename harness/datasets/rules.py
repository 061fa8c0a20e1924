"""What the field does with each collection: one table, each line with its source.

Whatever of it touches a run is applied by the runner and named in the run's record.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.datasets.missing import MissingCollection
from harness.metrics.measure import Levels

FORUMS = (
    "android", "english", "gaming", "gis", "mathematica", "physics",
    "programmers", "stats", "tex", "unix", "webmasters", "wordpress",
)  # fmt: skip


@dataclass(frozen=True)
class Rules:
    """How runs on one collection are made and scored."""

    drop_self: bool = False  # remove the document whose id is the query's; k+1 are retrieved first
    binary_level: int = 1  # the least grade that MRR, recall and the other binary metrics count as relevant
    mrr_level: int | None = None  # of MRR, where a track sets it apart
    mean_of: tuple[str, ...] = ()  # the score is the mean of these collections' means
    titles_wanted: bool = False  # the paper's systems read this corpus with titles it does not carry
    official: tuple[str, ...] = ()  # the metrics it is reported by, where not its id says them
    source: str = "none: every judged query counts, grades from 1 up are relevant"

    @property
    def levels(self) -> Levels:
        """As the metrics take them."""
        return Levels(self.binary_level, self.mrr_level)

    @property
    def key(self) -> list[bool | int]:
        """What of them decides a run or its scores."""
        return [self.drop_self, self.binary_level, *([] if self.mrr_level is None else [self.mrr_level])]


OFFICIAL_OF_BEIR = ("NDCG@10", "R@100")  # Thakur et al. 2021, Table 2 and appendix
_BEIR = "BEIR (Thakur et al. 2021, arXiv:2104.08663)"
_SELF = Rules(
    drop_self=True,
    source=f"{_BEIR}, EvaluateRetrieval: the queries are documents of the corpus, so results with the query's own id "
    "are removed; Anserini's -removeQuery",
)
_DEEP_LEARNING = Rules(
    binary_level=2,
    titles_wanted=True,
    source="TREC Deep Learning track overviews (arXiv:2003.07820, arXiv:2102.07662): passages graded 2 or 3 are "
    "relevant for binary metrics (trec_eval -l 2), NDCG keeps the grades",
)
_DEV_SMALL = Rules(
    titles_wanted=True,
    source="MS MARCO passage ranking (arXiv:1611.09268): MRR@10, cut at rank 10, over the 6,980 queries of dev/small",
)

_LATER_DEEP_LEARNING = Rules(
    binary_level=2,
    source="TREC 2022 and 2023 Deep Learning track overviews (trec.nist.gov/pubs.html): passages graded 2 or 3 are "
    "relevant for binary metrics, as in the years before",
)

# by ir_datasets id
RULES: dict[str, Rules] = {
    "beir/arguana": _SELF,
    "beir/quora/test": _SELF,
    "beir/quora/dev": _SELF,
    "beir/cqadupstack": Rules(
        mean_of=tuple(f"beir/cqadupstack/{forum}" for forum in FORUMS),
        source=f"{_BEIR}, Table 2: the mean over the 12 forums of each forum's mean",
    ),
    "msmarco-passage/dev/small": _DEV_SMALL,
    "msmarco-passage/trec-dl-2019/judged": _DEEP_LEARNING,
    "msmarco-passage/trec-dl-2020/judged": _DEEP_LEARNING,
    "msmarco-passage/trec-dl-2019": _DEEP_LEARNING,
    "msmarco-passage/trec-dl-2020": _DEEP_LEARNING,
    **{
        f"msmarco-passage-v2/trec-dl-{year}{part}": _LATER_DEEP_LEARNING
        for year in (2022, 2023)
        for part in ("", "/judged")
    },
}

ALIASES: dict[str, str] = {
    "msmarco-dev": "msmarco-passage/dev/small",
    "dl19": "msmarco-passage/trec-dl-2019/judged",
    "dl20": "msmarco-passage/trec-dl-2020/judged",
}

# BEIR-18 in the order of the paper's Table 2, each with the ir_datasets id of its test judgments; None: licensed
BEIR_18: dict[str, str | None] = {
    "beir/trec-covid": "beir/trec-covid",
    "beir/bioasq": None,
    "beir/nfcorpus": "beir/nfcorpus/test",
    "beir/nq": "beir/nq",
    "beir/hotpotqa": "beir/hotpotqa/test",
    "beir/fiqa": "beir/fiqa/test",
    "beir/signal1m": None,
    "beir/trec-news": None,
    "beir/robust04": None,
    "beir/arguana": "beir/arguana",
    "beir/webis-touche2020": "beir/webis-touche2020/v2",  # v2: the judgments of the published numbers
    "beir/cqadupstack": "beir/cqadupstack",
    "beir/quora": "beir/quora/test",
    "beir/dbpedia-entity": "beir/dbpedia-entity/test",
    "beir/scidocs": "beir/scidocs",
    "beir/fever": "beir/fever/test",
    "beir/climate-fever": "beir/climate-fever",
    "beir/scifact": "beir/scifact/test",
}
# other spellings in use for the same collections
BEIR_SYNONYMS: dict[str, str] = {
    "beir/touche2020": "beir/webis-touche2020",
    "beir/touche": "beir/webis-touche2020",
    "beir/dbpedia": "beir/dbpedia-entity",
    "beir/fiqa-2018": "beir/fiqa",
    "beir/signal-1m": "beir/signal1m",
}
_TREC_LICENCE = "NIST licenses the news texts to organisations: https://trec.nist.gov/data/news.html"
LICENSED: dict[str, str] = {
    "beir/bioasq": "BioASQ's terms require registration: http://participants-area.bioasq.org",
    "beir/signal1m": "Signal Media gives its articles out on request: https://research.signal-ai.com/datasets/signal1m-tweetir.html",
    "beir/trec-news": _TREC_LICENCE,
    "beir/robust04": _TREC_LICENCE.replace("news.html", "cd45/index.html"),
}


def canonical(name: str) -> str:
    """The ir_datasets id (or composite name) behind a user's name: aliases, `beir/<name>` to its test judgments."""
    name = BEIR_SYNONYMS.get(name, name)
    return ALIASES.get(name) or BEIR_18.get(name) or name


def our_rules(dataset_id: str) -> Rules:
    """The rules of a canonical id by our own table; the plain ones where it says nothing."""
    return RULES.get(dataset_id, Rules())


def rules_for(dataset_id: str) -> Rules:
    """The rules of a canonical id: ours, else by the official measures that ir_datasets names, else the plain ones."""
    from harness.datasets.ir_datasets_source import official_measures

    if dataset_id in RULES:
        return RULES[dataset_id]
    measures = official_measures(dataset_id)
    levels = levels_of(measures)
    if levels == Levels():
        return Rules()
    source = f"the official measures that ir_datasets names for {dataset_id}: {', '.join(measures)}"
    return Rules(binary_level=levels.binary, mrr_level=levels.mrr, source=source)


def official_for(dataset_id: str) -> tuple[str, ...]:
    """The metrics that a collection is reported by: those that ir_datasets names, else BEIR's, else NDCG@10."""
    from harness.datasets.ir_datasets_source import official_measures

    if measures := official_measures(dataset_id):
        return measures
    return OFFICIAL_OF_BEIR if dataset_id.startswith("beir/") else ("NDCG@10",)


def levels_of(measures: Sequence[str]) -> Levels:
    """The levels that measures such as `RR(rel=2)` and `AP@100` imply.

    Recall, precision and MAP take the greatest level of AP, P and R, and MRR that of RR; where only one of the two is
    there, both take it.
    """
    found: dict[str, int] = {}
    for measure in measures:
        family = re.split(r"[(@]", measure, maxsplit=1)[0]
        level = re.search(r"\brel=(\d+)", measure)
        found[family] = max(found.get(family, 1), int(level[1]) if level else 1)
    others = [found[family] for family in ("AP", "P", "R") if family in found]
    binary = max(others) if others else found.get("RR", 1)
    mrr = found.get("RR", binary)
    return Levels(binary, None if mrr == binary else mrr)


def hub_rules(repo: str, split: str) -> Rules:
    """The rules of a repository of the Hugging Face hub, by its name alone: those of the collection that it copies.

    `BeIR/NAME` and `mteb/NAME` are `beir/NAME`. NanoBEIR has plain rules, since both evaluators that its published
    figures come from (sentence-transformers, MTEB) keep a query's own document.
    """
    organisation, _, name = repo.partition("/")
    if organisation == "zeta-alpha-ai" and name.startswith("Nano"):
        return Rules(source=f"{repo}, NanoBEIR: sentence-transformers and MTEB remove no document from its results")
    if organisation.casefold() not in ("beir", "mteb"):
        return Rules()
    full = f"beir/{name.casefold()}".replace("cqadupstack-", "cqadupstack/")
    full = BEIR_SYNONYMS.get(full, full)
    if full not in BEIR_18 and not full.startswith(("beir/cqadupstack/", "beir/msmarco")):
        return Rules()
    whole = full if full in BEIR_18 and split == "test" else f"{full}/{'dev' if split == 'validation' else split}"
    dataset_id = canonical(full if full.startswith("beir/cqadupstack/") else whole)
    found = rules_for(dataset_id)
    return replace(found, official=official_for(dataset_id), source=f"{repo} is {full}, by its name: {found.source}")


def licensed_error(name: str, folder: object) -> MissingCollection:
    """The error for a licensed collection that the user has not put in its place."""
    return MissingCollection(
        f"{name} is not distributed with ir_datasets: {LICENSED[name]}. If you have it, put it in BEIR layout "
        f"(corpus.jsonl, queries.jsonl, qrels/test.tsv, each may be gzipped) into {folder}; that place is set by "
        f"HARNESS_HOME. BEIR's README shows how to convert it.",
        f"{LICENSED[name]}; into {folder}",
    )
