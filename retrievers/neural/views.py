"""Parts of a hybrid's stored vectors, and what a checkpoint allows; known without torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.models.hybrid import HybridSpec
from harness.retrievers.errors import InputError


class View(NamedTuple):
    """What of the stored vectors takes part: the dense half or not, and the `terms` largest pairs of each document."""

    dense: bool
    terms: int


def check(spec: HybridSpec, terms: Sequence[int], checkpoint: Path) -> None:
    """Raise InputError for a checkpoint that lacks a half, or more terms than its K."""
    if spec.dense == 0 or not spec.lexical:
        raise InputError(
            f"{checkpoint} has no {'lexical' if spec.dense != 0 else 'dense'} half (D = {spec.dense}, K = "
            f"{spec.lexical}), so there is nothing to take apart. Name a hybrid checkpoint, or give --lexical K."
        )
    if too_many := sorted({count for count in terms if count > spec.lexical}):
        raise InputError(
            f"{', '.join(map(str, too_many))}: more terms than the {spec.lexical} that are kept of a passage. Ask for "
            f"1 to {spec.lexical}, or keep more with --lexical."
        )
