"""Which rows of the paper's tables a record may fill, by what its manifest says of the system, and what is against it.

A system fills a row by `paper_rows` of its manifest (BM25 with the paper's settings, a checkpoint that its authors
published). DupMAE and RetroMAE, which users train themselves, fill it by how the checkpoint was trained and represented
(`system.trained`, the widths among `system.options`). What decides the row and what decides whether its score may stand
beside the published one are two things: a miniature fills its row, and is not comparable.
"""

from collections.abc import Sequence
from typing import Any

from harness.reports.paper.published import published
from harness.reports.records.records import System

BOTH, SMALLER, CLS, OT = "CLS and OT", "CLS and OT, as many bytes as CLS", "CLS", "OT"
_PAPER_MODEL = {"layers": 12, "hidden": 768, "vocabulary": 30_522}  # section 4, "Implementation details"; BERT base
_BOTH_TASKS = "CLS and OT decoding"
_NONE, _IN_BATCH, _HARD, _DISTILLED = "not fine-tuned", "in-batch", "hard negatives", "distilled"
_TRAINED_BY_USERS = ("DupMAE", "RetroMAE")
_ENCODERS = (*_TRAINED_BY_USERS, "BERT")
# Table 3: the pre-training's decoding tasks and the representation make the row
_TABLE_3: dict[tuple[str, str], tuple[str, ...]] = {
    ("CLS decoding", CLS): ("RetroMAE",),
    ("CLS decoding", BOTH): ("CLS decoding only",),
    ("OT decoding", BOTH): ("OT decoding only",),
    (_BOTH_TASKS, BOTH): (_BOTH_TASKS, "CLS:384, OT:384"),
    (_BOTH_TASKS, CLS): ("CLS:768",),
    (_BOTH_TASKS, OT): ("OT:768",),
    (_BOTH_TASKS, SMALLER): ("CLS:384, OT:260",),
}


def rows_of(table: int, system: System) -> tuple[str, ...]:
    """The systems of Table 1, 2 or 3 (its rows; in Table 2 its columns) that this one is; empty where it is none."""
    if system.system in _TRAINED_BY_USERS:
        return _rows_by_training(table, system)
    there = published(table).systems
    return tuple(claim.row for claim in system.paper_rows if claim.table == table and claim.row in there)


def silence(system: System) -> str:
    """Why a checkpoint of DupMAE or RetroMAE is no row of any table, where that can be told; else ""."""
    if system.system not in _TRAINED_BY_USERS:
        return ""
    if representation(system) is None:
        return "its D and K are none of the paper's representations at its H"
    if _tasks(system) is None:
        return "its checkpoint does not say which decoding tasks it was pre-trained by"
    return ""


def _rows_by_training(table: int, system: System) -> tuple[str, ...]:
    halves, tasks = representation(system), _tasks(system)
    if halves is None or tasks is None:
        return ()
    if table == 3:
        return _TABLE_3.get((tasks, halves), ())
    if (tasks, halves) == ("CLS decoding", CLS):
        return ("RetroMAE",)
    if (tasks, halves) != (_BOTH_TASKS, BOTH):
        return ()
    if table == 2:
        return ("DupMAE",)
    stages = {_HARD: ("DupMAE (stage 2)",), _DISTILLED: ("DupMAE (stage 3)",)}
    return stages.get(fine_tuning(system) or "", ())


def _tasks(system: System) -> str | None:
    """The decoding tasks of the pre-training; those of the authors' own checkpoints are what their system's name says.

    A checkpoint that does not say is what its row of the catalog claims, as records of schema 1 are.
    """
    said = system.trained.get("pretraining")
    if said is not None:
        return str(said)
    if not system.paper_rows:
        return None
    return "CLS decoding" if system.system == "RetroMAE" else _BOTH_TASKS


def representation(system: System) -> str | None:
    """Which of Table 3's representations the widths D and K are, for the model's own H; None for any other.

    H of a record that does not say it is the paper's, 768. Half of H for the CLS vector, and for the ordinary tokens
    half of H, or as many terms as take the other half's bytes (32-bit values, 15-bit term ids): 260 of 768 in the
    paper, where 261 would fit as well, so one fewer than fits is taken too.
    """
    hidden = system.model.get("hidden", _PAPER_MODEL["hidden"])
    dense, lexical = system.options.get("dense"), system.options.get("lexical")
    if not isinstance(dense, int) or not isinstance(lexical, int) or system.options.get("pooling") != "cls":
        return None
    if dense in (0, hidden):
        return {(hidden, 0): CLS, (0, hidden): OT}.get((dense, lexical))
    if dense * 2 != hidden:
        return None
    fits = int(4 * (hidden - dense) / (4 + 15 / 8))
    return BOTH if lexical == dense else SMALLER if fits - 1 <= lexical <= fits else None


def fine_tuning(system: System) -> str | None:
    """The last fine-tuning stage, by what it had; None where nothing says."""
    trained = system.trained
    if trained.get("kind") == "pretrain":
        return _NONE
    if trained.get("kind") == "finetune":
        return _DISTILLED if trained.get("distil") else _HARD if trained.get("negatives") else _IN_BATCH
    return system.stage


def against(table: int, row: str, system: System) -> list[str]:
    """Why the system's scores cannot stand beside the published ones of `row`; empty where nothing is against it."""
    if system.system not in _ENCODERS:
        # its row is a claim of the catalog; weights that say they were pre-trained by decoding tasks are none of theirs
        tasks = system.trained.get("pretraining")
        return [f"other pre-training ({tasks})"] if tasks else []
    return [*_model(system), *_settings(system), *_pretraining(table, system), *_finetuning(table, row, system)]


def _model(system: System) -> list[str]:
    model = system.model
    if not model:
        return ["the record does not say how large the model is"]
    if model == _PAPER_MODEL:
        return []
    words = f"{model['layers']} layers, H {model['hidden']:,}, V {model['vocabulary']:,}; the paper: 12, 768, 30,522"
    small = model["layers"] < _PAPER_MODEL["layers"] or model["hidden"] < _PAPER_MODEL["hidden"]
    return [f"{'miniature' if small else 'other'} model ({words})"]


def _settings(system: System) -> list[str]:
    reasons = []
    if system.system == "BERT" and representation(system) != CLS:
        reasons.append("other settings (not the whole CLS vector)")
    if system.options.get("titles") in (False, "none"):
        reasons.append("no titles")
    if system.options.get("similarity", "dot") != "dot":
        reasons.append(f"other settings (similarity {system.options['similarity']})")
    return reasons


def _pretraining(table: int, system: System) -> list[str]:
    corpora: Sequence[str] | None = system.trained.get("pretrained_on")
    if system.system == "BERT":
        return [f"other pre-training data ({', '.join(corpora)})"] if corpora else []
    if corpora is None:
        return [] if _published_checkpoint(system) else ["the checkpoint does not say what it was pre-trained on"]
    # Table 2's model has the general pre-training alone (authors' code, examples/retriever/BEIR)
    wanted = [("kilt", "wiki"), ("book",), *([("msmarco-passage",)] if table != 2 else [])]
    there = all(any(word in corpus.lower() for corpus in corpora for word in words) for words in wanted)
    if not there or any(", first " in corpus for corpus in corpora):
        return [f"other pre-training data ({', '.join(corpora) or 'none'})"]
    return []


def _published_checkpoint(system: System) -> bool:
    """Whether the catalog's own checkpoint was run: one that says nothing of itself, and may fill a row."""
    return bool(system.paper_rows) and not system.trained


def _finetuning(table: int, row: str, system: System) -> list[str]:
    tuned = fine_tuning(system)
    wanted = (_HARD, "fine-tuned") if table == 2 else (_HARD,)
    if table == 1:
        wanted = (_HARD,) if published(1).labels["FT"][row] == "hard" else (_DISTILLED,)
    if tuned not in wanted:
        return [f"other fine-tuning ({tuned or 'the checkpoint does not say which'}; the paper's: {wanted[0]})"]
    reasons = []
    data: Sequence[str] | None = system.trained.get("finetuned_on")
    if data is None and not _published_checkpoint(system):
        reasons.append("the checkpoint does not say what it was fine-tuned on")
    elif data is not None and not all(name.startswith("msmarco-passage/train") for name in data):
        reasons.append(f"other fine-tuning data ({', '.join(data)})")
    widths: Any = system.trained.get("finetuned_as")
    run = [system.options.get("dense"), system.options.get("lexical")]
    if widths is not None and list(widths) != run:
        reasons.append(f"other fine-tuning (as {_widths(*widths)}, run as {_widths(*run)})")
    return reasons


def _widths(dense: Any, lexical: Any) -> str:
    return f"CLS:{dense}, OT:{lexical}"
