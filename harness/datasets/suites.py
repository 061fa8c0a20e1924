"""Suites: names for several collections, whose mean is reported."""

import re
from collections.abc import Collection, Mapping, Sequence

from harness.datasets.rules import ALIASES, BEIR_18, LICENSED
from harness.retrievers.errors import InputError

# as in https://huggingface.co/collections/zeta-alpha-ai/nanobeir-66e1a0af21dfd93e620cd9f6
_NANO = (
    "ClimateFEVER", "DBPedia", "FEVER", "FiQA2018", "HotpotQA", "MSMARCO", "NFCorpus", "NQ", "QuoraRetrieval",
    "SCIDOCS", "ArguAna", "SciFact", "Touche2020",
)  # fmt: skip
SUITES: Mapping[str, Sequence[str]] = {
    "beir": tuple(BEIR_18),
    "beir-public": tuple(name for name in BEIR_18 if name not in LICENSED),
    "nano-beir": tuple(f"hf:zeta-alpha-ai/Nano{name}" for name in _NANO),
}
ABOUT: Mapping[str, str] = {
    "beir": "BEIR's 18, cqadupstack as the mean of its 12 forums",
    "beir-public": "the 14 of them without a licence",
    "nano-beir": "NanoBEIR: 13 of BEIR's in small, 50 queries each",
}


def no_collection(name: str) -> InputError:
    """The error for a suite where one collection is wanted."""
    members = SUITES[name]
    return InputError(
        f"{name} is a suite of {len(members)} collections, and one is wanted here. `harness run -d {name}` runs them "
        f"all; otherwise name one, such as {members[0]}."
    )


def check_suite(name: str, members: Sequence[str], others: Collection[str]) -> None:
    """Raise ValueError for a user's suite whose name is taken or names no folder, or whose members are not sound."""
    if not re.fullmatch(r"[\w+-][\w.+-]*", name):
        raise ValueError(f"the suite {name!r}: a name is letters, digits, and . + - _")
    if name in SUITES or name in ("mini", *ALIASES):
        raise ValueError(f"the suite {name!r}: that name is taken. Choose another")
    if not members:
        raise ValueError(f"the suite {name!r} names no collection")
    for number, member in enumerate(members):
        if member in SUITES or member in others:
            raise ValueError(f"the suite {name!r} holds the suite {member!r}; its members must be collections")
        if member in members[:number]:
            raise ValueError(f"the suite {name!r} names {member!r} twice. Name it once")
