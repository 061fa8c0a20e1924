"""What `harness adapt` is asked for, and the recipe that answers it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

K = 192  # terms of a passage
BATCH, QUERIES = 16, 8  # texts of a step; queries of one of fine-tuning, each with 3 passages
HELD_OUT, PAIRS, WRITTEN, ASKED = "held_out", "pairs", "written", "asked"
WITHIN = 20  # results of the base among which a pseudo-query's own text must be
_LEAST_PAIRS, _EPOCHS_OF_PAIRS = 2_000, 2
_HELD_OUT = 1_000  # documents whose pseudo-queries weigh the halves, and measure before and after


@dataclass(frozen=True)
class Wish:
    """`corpora` and `pairs` are names as `harness run` takes them, or files of texts; `teacher` a retriever's name.

    `queries` is a file of questions without answers, `query_generator` a language model that writes queries.
    """

    base: str
    corpora: tuple[str, ...]
    output: Path
    minutes: float = 60.0
    pairs: tuple[str, ...] = ()
    queries: str | None = None
    query_generator: str | None = None
    teacher: str | None = None
    evaluate: tuple[str, ...] = ()
    pretrain: bool = True


@dataclass(frozen=True)
class Steps:
    """Of each stage that trains; 0 leaves the stage out."""

    warm: int
    pretrain: int
    tune: int
    write: int = 0  # texts that a language model writes a query for


def tunes(wish: Wish, pretrained: bool) -> bool:
    """Whether there is something to tune by: queries of people or of a model, or an encoder that pre-training moved.

    By titles, sentences and crops alone a calibrated head gains little or loses: they teach it to match words, which it
    does. docs/adapt.md has the figures.
    """
    return bool(pretrained or wish.pairs or wish.queries or wish.query_generator)


def _first(wish: Wish, documents: int) -> list[dict[str, Any]]:
    """The first so many texts of each corpus."""
    return [{"name": name, "documents": documents} for name in wish.corpora]


def _pseudo(wish: Wish, steps: Steps, trip: dict[str, Any]) -> dict[str, Any]:
    """The pairs to tune by, each within a round trip.

    The round trip takes time with the square of the texts, so no more are taken than fine-tuning has use for.
    """

    def share(texts: int) -> list[dict[str, Any]]:
        return _first(wish, -(-texts // len(wish.corpora)))

    texts = share(max(_LEAST_PAIRS, _EPOCHS_OF_PAIRS * steps.tune * QUERIES))
    found: dict[str, Any] = {PAIRS: {"corpora": texts, "round_trip": trip, "apart_from": HELD_OUT}}
    if wish.queries:
        found[ASKED] = {"corpora": list(wish.corpora), "asked": wish.queries, "round_trip": trip}
    if wish.query_generator and steps.write:
        writer = {"model": wish.query_generator}
        found[WRITTEN] = {"corpora": share(steps.write), "writer": writer, "round_trip": trip}
    return found


def recipe(
    wish: Wish, steps: Steps, length: int, searched: tuple[int, int], terms: int = K, precision: str = "auto"
) -> dict[str, Any]:
    """The recipe as a YAML file holds it.

    `length` is of passages in training, `searched` of queries and passages in search, as the base has them, all in
    tokens; `terms` are kept of each passage.
    """
    query_length, search_length = searched
    parts, quick = list(wish.corpora), precision == "bf16"
    base: dict[str, Any] = {"retriever": f"hf:{wish.base}"} | ({"options": {"precision": "bf16"}} if quick else {})
    pseudo = _pseudo(wish, steps, {**base, "within": WITHIN}) if steps.tune else {}
    stages: dict[str, Any] = {}
    if steps.warm:
        stages["warm"] = {
            "kind": "warm_head", "tied": False, "steps": steps.warm, "batch": BATCH, "length": length, "save_every": 50,
        }  # fmt: skip
    if steps.pretrain:
        stages["pretrain"] = {
            "kind": "pretrain", "steps": steps.pretrain, "batch": BATCH, "length": length, "learning_rate": 3.0e-5,
            "warmup": 0.1, "save_every": 50,
        }  # fmt: skip
    frozen, rate = (False, 2.0e-5) if steps.pretrain else (True, 1.0e-4)
    stages["calibrate"] = {
        "kind": "calibrate", "lexical": terms, "length": search_length, "idf": [0.0, 0.25, 0.5, 0.75, 1.0],
        "above": [1.0, 2.0], "collections": [HELD_OUT],
    }  # fmt: skip
    if steps.tune:
        own = [{"retriever": wish.teacher}] if wish.teacher else [
            {**base, "weight": 2.0}, {"retriever": "bm25", "weight": 1.0},
        ]  # fmt: skip
        stages |= {
            "mine": {"kind": "mine", "retriever": "bm25", "depth": 30, "least": 8},
            "score": {"kind": "score", "candidates": 8, "teacher": own},
            "tune": {
                "kind": "finetune", "lexical": terms, "steps": steps.tune, "batch": QUERIES, "negatives": 2,
                "distil": True, "contrastive_weight": 1.0, "each_half": 0.5, "learning_rate": rate, "warmup": 0.1,
                "chunk": 32, "query_length": query_length, "passage_length": length, "save_every": 50, "frozen": frozen,
            },
        }  # fmt: skip
    stages["weigh"] = {
        "kind": "weigh", "collections": [HELD_OUT], "metric": "NDCG@10",
        "spread": 0.5, "passage_length": search_length,
    }  # fmt: skip
    return {
        "name": "adapt",
        "root": ".",  # names mean what they mean to the command
        "description": f"{wish.base}, adapted to {', '.join(parts)}",
        "precision": precision,
        "base": {"checkpoint": wish.base},
        "data": {
            "corpora": parts,
            "pseudo": pseudo | {HELD_OUT: {"corpora": _first(wish, _HELD_OUT), "seed": 7}},
            "train": [*pseudo, *wish.pairs] if steps.tune else [],
            "evaluate": list(wish.evaluate),
        },
        "stages": stages,
    }
