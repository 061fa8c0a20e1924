"""A record as a result of MTEB: the JSON that `mteb.results.TaskResult.from_disk` reads; mteb is not needed for it."""

import datetime
import json
import re
from collections.abc import Sequence
from typing import Any

from harness.datasets.rules import canonical
from harness.metrics.measure import Levels
from harness.reports.records.records import Record
from harness.retrievers.errors import InputError
from harness.runtime.hashing import joint

END = ".mteb.json"
MAIN = "NDCG@10"
_SPLITS = ("test", "dev", "validation", "train")
# a metric of ours by its name there, before `_at_k`
_NAMES = {"NDCG": "ndcg", "MAP": "map", "MRR": "mrr", "R": "recall", "P": "precision", "Success": "hit_rate"}
_BY_LEVEL = ("map", "mrr", "recall", "precision", "hit_rate")  # which count as relevant what has a grade above 0
# tasks of MTEB made of BEIR's collections, by our names; the task of Touché there has other judgments than BEIR's v2
_TASKS = {
    "trec-covid": "TRECCOVID", "nfcorpus": "NFCorpus", "nq": "NQ", "hotpotqa": "HotpotQA", "fiqa": "FiQA2018",
    "arguana": "ArguAna", "cqadupstack": "CQADupstackRetrieval", "quora": "QuoraRetrieval", "dbpedia-entity": "DBPedia",
    "scidocs": "SCIDOCS", "fever": "FEVER", "climate-fever": "ClimateFEVER", "scifact": "SciFact",
    **{
        f"cqadupstack/{forum}": f"CQADupstack{name}Retrieval"
        for forum, name in {
            "android": "Android", "english": "English", "gaming": "Gaming", "gis": "Gis",
            "mathematica": "Mathematica", "physics": "Physics", "programmers": "Programmers", "stats": "Stats",
            "tex": "Tex", "unix": "Unix", "webmasters": "Webmasters", "wordpress": "Wordpress",
        }.items()
    },
}  # fmt: skip
_BY_ID = {canonical(f"beir/{name}"): task for name, task in _TASKS.items()}


def task_of(record: Record) -> str | None:
    """The task of MTEB that is made of the record's collection, where it is one of BEIR's."""
    return _BY_ID.get(record.manifest.data.dataset_id)


def text_of(
    record: Record,
    task: str | None = None,
    split: str | None = None,
    subset: str = "default",
    languages: str | Sequence[str] | None = None,
    revision: str | None = None,
) -> str:
    """A record's scores as the JSON of a TaskResult, whose main score is NDCG@10.

    Without `task` it is the one of MTEB that is made of the collection, else the collection's name; `languages` (such
    as eng-Latn) may be left out where MTEB has the task. `revision` is of the data: nothing here compares ours with
    MTEB's, so without it the file names a hash of what was scored. Where the collection's rules count as relevant
    another grade than 1, only NDCG is written. Raises InputError for a record without NDCG@10, names that are none, or
    a collection whose language is not known.
    """
    manifest, known = record.manifest, task_of(record)
    if MAIN not in record.metrics:
        raise InputError(
            f"{record.folder} has no {MAIN}, which is the main score of MTEB's retrieval tasks. Run or score it again "
            f"with --metric {MAIN}; what was searched is found."
        )
    if task is not None and (not task.strip() or not task.isprintable()):
        raise InputError(f"the task is {task!r:.60}; want its name in MTEB, such as SciFact.")
    data = manifest.data
    plain = Levels(data.rules.binary_level, data.rules.mrr_level) == Levels()
    scores: dict[str, Any] = {
        name: value
        for metric, value in record.metrics.items()
        if (name := _name(metric)) is not None and (plain or not name.startswith(_BY_LEVEL))
    }
    spoken = [languages] if isinstance(languages, str) else list(languages or (["eng-Latn"] if known else []))
    if not spoken or not all(isinstance(one, str) and re.fullmatch(r"[a-z]{3}-[A-Z][a-z]{3}", one) for one in spoken):
        raise InputError(
            f"the languages of {data.name} are {', '.join(map(repr, spoken)) or 'not known'}; MTEB leaves out scores "
            "without them. Give each as ISO 639-3 and script: --language eng-Latn (languages in Python)."
        )
    scores |= {"main_score": record.metrics[MAIN], "hf_subset": subset, "languages": spoken}
    found = {
        "dataset_revision": revision or f"harness-{joint([data.corpus_hash, data.queries_hash, data.qrels_hash])[:12]}",
        "task_name": task or known or data.name,
        "mteb_version": None,  # it computed none of this
        "scores": {split or _split(data.dataset_id, data.name): [scores]},
        "evaluation_time": round(sum(manifest.cost.seconds.values()), 3),
        "kg_co2_emissions": None,
        "date": datetime.datetime.fromisoformat(manifest.created).timestamp(),
    }
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _name(metric: str) -> str | None:
    """`ndcg_at_10` for `NDCG@10`; None for a metric that MTEB has not."""
    match = re.fullmatch(r"(\w+)@(\d+)", metric)
    return f"{_NAMES[match[1]]}_at_{match[2]}" if match and match[1] in _NAMES else None


def _split(dataset_id: str, name: str) -> str:
    """The split that a collection's name says, as `dev` of `msmarco-passage/dev/small`; else test."""
    words = [word for text in (dataset_id, name) for word in text.split("/")]
    return next((word for word in words if word in _SPLITS), "test")
