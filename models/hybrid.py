"""`hybrid.json`: how a checkpoint turns a text into a vector of two halves."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.models.errors import CheckpointError

FILE = "hybrid.json"
POOLINGS = ("cls", "mean")
SIMILARITIES = ("dot", "cosine")
LEXICAL_POOLINGS = ("max", "sum")
ACTIVATIONS = ("none", "log1p_relu")
LEXICAL_TOKENS = ("ordinary", "all")
_LARGEST = 1e6  # of a scale or a temperature
_LARGEST_POWER = 4
# of `trained`, what a checkpoint hands on to the one trained from it: the decoding tasks and the corpora of its
# pre-training; the collections that it was fine-tuned on, the widths [D, K] that it had then, and the collections that
# its halves were weighed on
_LEARNED = ("pretraining", "pretrained_on", "finetuned_on", "finetuned_as", "weighed_on")


@dataclass(frozen=True)
class HybridSpec:
    """Two halves of a document's vector (paper, section 3.2): D dense values and K lexical pairs.

    The dense half is the pooled hidden state, after a projection [D,H] where there is one. The lexical half are the K
    largest of the vocabulary's max-pooled logits; a query keeps all V. The score is
    `dense_q · dense_d + lexical_scale · Σ_{i in I_d} μ_q[i] μ_d[i]` (equation 12, with a scale that training may set).

    The paper's μ is the maximum of the raw logits over the ordinary tokens. SPLADE's (Formal et al. 2021, equations 1
    and 6) is the maximum, or before v2 the sum, of log(1 + ReLU(logit)) over all tokens, CLS and SEP among them, and K
    is V: every term above 0 is kept.

    With `lexical_idf` above 0 each term of a query also weighs by its rarity in the collection that is searched, to
    that power (`harness.retrievers.encoding.rarity`); the paper has none.

    Raises CheckpointError for a value that makes no sense.
    """

    dense: int | None = None  # D; None is the hidden width, 0 no dense half
    lexical: int = 0  # K
    pooling: str = "cls"
    similarity: str = "dot"  # cosine normalises the dense half
    temperature: float = 1.0  # of the training loss; it does not change a ranking
    lexical_scale: float = 1.0
    lexical_idf: float = 0.0
    lexical_pooling: str = "max"  # over the tokens: max or sum
    activation: str = "none"  # of each logit before that: none, or log1p_relu = log(1 + max(0, logit))
    lexical_tokens: str = "ordinary"  # which tokens count: ordinary leaves CLS and SEP out, all does not
    query_length: int = 32  # in tokens, special ones included
    passage_length: int = 144
    query_prefix: str = ""
    passage_prefix: str = ""
    trained: dict[str, Any] = field(default_factory=dict)  # how, as its training wrote it down

    def __post_init__(self) -> None:
        choices = {
            "pooling": POOLINGS,
            "similarity": SIMILARITIES,
            "lexical_pooling": LEXICAL_POOLINGS,
            "activation": ACTIVATIONS,
            "lexical_tokens": LEXICAL_TOKENS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise CheckpointError(f"{name} is {getattr(self, name)!r}; there is {', '.join(allowed)}.")
        for name, least in (("dense", 0), ("lexical", 0), ("query_length", 1), ("passage_length", 1)):
            value = getattr(self, name)
            if name == "dense" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise CheckpointError(f"{name} is {value!r}; want a whole number from {least} up.")
        for name in ("temperature", "lexical_scale"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= _LARGEST:
                raise CheckpointError(f"{name} is {value!r}; want a number above 0, at most {_LARGEST:.0e}.")
        power = self.lexical_idf
        if not isinstance(power, int | float) or isinstance(power, bool) or not 0 <= power <= _LARGEST_POWER:
            raise CheckpointError(f"lexical_idf is {power!r}; want a number from 0 to {_LARGEST_POWER}.")
        for name, kind in (("query_prefix", str), ("passage_prefix", str), ("trained", dict)):
            if not isinstance(getattr(self, name), kind):
                raise CheckpointError(f"{name} is {getattr(self, name)!r}; want a {kind.__name__}.")
        if self.dense == 0 and self.lexical == 0:
            raise CheckpointError("dense and lexical are both 0: a vector needs one half at least.")

    def replace(self, **changes: Any) -> "HybridSpec":
        """A copy with the changes that are not None."""
        return dataclasses.replace(self, **{name: value for name, value in changes.items() if value is not None})

    @property
    def both(self) -> bool:
        """Whether it has both halves."""
        return self.dense != 0 and self.lexical > 0

    @property
    def learned(self) -> dict[str, Any]:
        """What of `trained` still holds for a checkpoint that is trained on from this one."""
        return {name: self.trained[name] for name in _LEARNED if name in self.trained}

    def write(self, folder: Path) -> None:
        """Write `hybrid.json` into a checkpoint's folder."""
        (folder / FILE).write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def read(folder: Path) -> HybridSpec | None:
    """The spec in a checkpoint's folder; None where it has none.

    Raises CheckpointError for a file that is no JSON object, or holds unknown keys or impossible values.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}).") from error
    names = {f.name for f in dataclasses.fields(HybridSpec)}
    if not isinstance(values, dict) or not set(values) <= names:
        odd = sorted(set(values) - names) if isinstance(values, dict) else type(values).__name__
        raise CheckpointError(f"{path} holds {odd}; want an object with {', '.join(sorted(names))}.")
    try:
        return HybridSpec(**values)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
