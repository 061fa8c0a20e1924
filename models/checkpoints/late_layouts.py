"""Two layouts of a late-interaction checkpoint: what the folder's files say of how a text becomes token vectors.

========================  =====================================================================================
layout                    what tells it, and what it says
========================  =====================================================================================
ColBERT                   `linear.weight` among the backbone's weights, and `artifact.metadata` (ColBERTv2's own,
                          colbert-ai: `ColBERTConfig`), a JSON object; what it leaves out is that package's default
sentence-transformers     `modules.json`: Transformer, any of Dense, MultiVectorMask, Normalize at the end (what
                          `MultiVectorEncoder.save` of release 6 writes)
========================  =====================================================================================

Nothing here loads a backbone.
"""

import dataclasses
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from harness.models.checkpoints import projection_layers
from harness.models.checkpoints.adapters import refuse_adapter
from harness.models.checkpoints.layouts import (
    Place,
    activation_of,
    refuse_foreign,
    text_settings,
    transformer_settings,
)
from harness.models.checkpoints.modules_json import MODULES, json_in, modules_in
from harness.models.checkpoints.projection_layers import Build
from harness.models.checkpoints.weights import names_in
from harness.models.errors import CheckpointError

METADATA = "artifact.metadata"
_TOKENS = "token_embeddings"  # what a module of MultiVectorEncoder reads and writes


@dataclass(frozen=True)
class LateSpec:
    """How texts become token vectors; lengths are in tokens, special ones and markers included.

    The defaults are those of colbert-ai's `ColBERTConfig` (Khattab and Zaharia 2020, section 3.2; Santhanam et al.
    2022). A marker is put behind the first token, a prefix before the text. A query of fewer than `query_least` tokens
    is filled up with `filler` (None: the tokenizer's mask token), which the other tokens do not attend to unless
    `attend`; its vectors count as the others do. `skipped` words are left out of a document after encoding, those that
    the tokenizer does not know as one token excepted.

    Raises CheckpointError for lengths that make no sense.
    """

    query_length: int = 32
    query_least: int = 32  # 0: nothing is filled up
    passage_length: int = 220
    query_marker: str = ""
    passage_marker: str = ""
    query_prefix: str = ""
    passage_prefix: str = ""
    filler: str | None = None
    attend: bool = False
    skipped: tuple[str, ...] = tuple(string.punctuation)
    unit: bool = True  # whether each vector is divided by its Euclidean norm

    def __post_init__(self) -> None:
        for name, least in (("query_length", 1), ("query_least", 0), ("passage_length", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise CheckpointError(f"{name} is {value!r}; want a whole number from {least} up.")
        if self.query_least > self.query_length:
            raise CheckpointError(
                f"queries are filled up to {self.query_least} tokens and cut at {self.query_length}: want at most that."
            )

    def lengths(self, query: int | None, passage: int | None) -> "LateSpec":
        """A copy with the lengths that are not None; queries of one length stay of one length."""
        fixed = self.query_least == self.query_length
        query = query or self.query_length
        least = query if fixed else min(self.query_least, query)
        return dataclasses.replace(
            self, query_length=query, query_least=least, passage_length=passage or self.passage_length
        )


@dataclass(frozen=True)
class LateLayout(Place):
    """`layers` turn hidden states into token vectors; `width` is what the files say of D, None where they do not."""

    spec: LateSpec
    layers: tuple[Build, ...]
    width: int | None = None
    lowercase: bool = False

    def after_backbone(self, hidden: int) -> nn.Sequential:
        """The layers, for a backbone of width `hidden`.

        Raises CheckpointError for weights that are missing, or of another shape than what comes before or is said.
        """
        made: list[nn.Module] = []
        width = hidden
        for build in self.layers:
            made.append(build(width))
            width = next((p.shape[0] for p in made[-1].parameters()), width)
        if self.width not in (None, width):
            raise CheckpointError(
                f"{self.folder}: {METADATA} says that token vectors have {self.width} values, and linear.weight makes "
                f"{width}. The two do not belong together."
            )
        return nn.Sequential(*made)


def silent(layout: Place) -> bool:
    """Whether a checkpoint of ColBERT's own layout comes without the file that says how it is used."""
    return layout.kind == "ColBERT" and not (layout.folder / METADATA).is_file()


def read(folder: Path) -> LateLayout:
    """Say which layout `folder` has, and what it says.

    Raises CheckpointError for a folder that is no late-interaction checkpoint, a malformed file, or a choice that
    cannot be made here.
    """
    if (folder / MODULES).is_file():
        return _sentence_transformers(folder)
    if "linear.weight" not in names_in(folder):
        raise CheckpointError(
            f"{folder} is no late-interaction checkpoint: its weights lack linear.weight, which makes token vectors of "
            f"hidden states, and there is no {MODULES}. Name a ColBERT checkpoint, or one that sentence-transformers' "
            "MultiVectorEncoder saved."
        )
    said = json_in(folder / METADATA, {})
    for name, allowed in (("similarity", "cosine"), ("interaction", "colbert")):
        if said.get(name, allowed) != allowed:
            raise CheckpointError(f"{folder / METADATA}: {name} is {said[name]!r}; there is {allowed}.")
    length = said.get("query_maxlen", 32)
    spec = LateSpec(
        query_length=length,
        query_least=length,
        passage_length=said.get("doc_maxlen", 220),
        query_marker=said.get("query_token_id", "[unused0]"),
        passage_marker=said.get("doc_token_id", "[unused1]"),
        attend=bool(said.get("attend_to_mask_tokens", False)),
        skipped=tuple(string.punctuation) if said.get("mask_punctuation", True) else (),
    )
    return LateLayout("ColBERT", folder, folder, spec, (projection_layers.dense(folder, "linear"),), said.get("dim"))


def _sentence_transformers(folder: Path) -> LateLayout:
    modules = modules_in(folder)
    kinds = [kind for kind, _ in modules]
    config = json_in(folder / "config_sentence_transformers.json", {})
    if config.get("model_type") == "ColBERT":
        raise CheckpointError(
            f"{folder} was saved by PyLate, whose layout is not read here. Load it with sentence-transformers' "
            "MultiVectorEncoder and save it again."
        )
    if kinds[:1] != ["Transformer"] or kinds.count("MultiVectorMask") != 1:
        raise _impossible(folder, kinds, "it has not one Transformer first and one MultiVectorMask")
    if config.get("similarity_fn_name") not in (None, "maxsim"):
        raise CheckpointError(f"{folder} compares by {config['similarity_fn_name']}; there is maxsim.")
    refuse_foreign(folder)
    backbone = folder / modules[0][1]
    refuse_adapter(backbone)
    layers: list[Build] = []
    said: dict[str, Any] = {"unit": False}
    for place, (kind, path) in enumerate(modules[1:], 1):
        own = json_in(folder / path / "config.json", {})
        ports = {own.get(name) or _TOKENS for name in ("module_input_name", "module_output_name")}
        if ports != {_TOKENS} or own.get("use_residual"):
            raise _impossible(folder, kinds, f"{path} does more than one layer on the token vectors")
        if kind == "MultiVectorMask":
            said["skipped"] = _skipped(folder, kinds, own)
        elif kind == "Dense":
            dense = json_in(folder / path / "config.json")
            activation = activation_of(dense, folder / path)
            layers.append(projection_layers.dense(folder / path, "linear", activation, dense.get("bias")))
        elif kind == "Normalize" and place >= len(modules) - 2 and kinds[place + 1 :] in ([], ["MultiVectorMask"]):
            said["unit"] = True
        elif kind == "Normalize":
            layers.append(lambda _: projection_layers.Normalised())
        elif kind != "Dropout":  # which does nothing but in training
            raise _impossible(folder, kinds, f"{kind} is not known")
    texts, lowercase = text_settings(folder, backbone, kinds)
    said |= {name: texts[name] for name in ("query_prefix", "passage_prefix")}
    spec = LateSpec(**said, **_query_and_passage(backbone, texts))
    return LateLayout("sentence-transformers", folder, backbone, spec, tuple(layers), lowercase=lowercase)


def _query_and_passage(backbone: Path, texts: dict[str, Any]) -> dict[str, Any]:
    """Lengths, and how queries are filled up."""
    settings = transformer_settings(backbone)
    longest = texts.get("passage_length", 512)
    query, passage = settings.get("query_length") or longest, settings.get("document_length") or longest
    expansion = settings.get("query_expansion")
    if expansion is None:
        return {"query_length": query, "query_least": 0, "passage_length": passage}
    strategy, length = expansion.get("strategy"), expansion.get("length")
    if strategy not in ("fixed", "min") or not isinstance(length, int):
        raise CheckpointError(f"{backbone}: query_expansion is {expansion}; want a strategy fixed or min and a length.")
    return {
        "query_length": length if strategy == "fixed" else max(query, length),
        "query_least": length,
        "passage_length": passage,
        "filler": expansion.get("token"),
        "attend": bool(expansion.get("attend", False)),
    }


def _skipped(folder: Path, kinds: list[str], mask: dict[str, Any]) -> tuple[str, ...]:
    words = mask.get("skiplist_words") or []
    if mask.get("keep_only_token_ids"):
        raise _impossible(folder, kinds, "its MultiVectorMask keeps named tokens alone, which is not known here")
    if words and list(mask.get("skiplist_tasks") or ["document"]) != ["document"]:
        raise _impossible(folder, kinds, "its MultiVectorMask skips words of other texts than documents")
    return tuple(str(word) for word in words)


def _impossible(folder: Path, kinds: list[str], why: str) -> CheckpointError:
    return CheckpointError(
        f"{folder / MODULES} is a chain of {', '.join(kinds) or 'nothing'}: {why}. There is Transformer, then Dense, "
        "MultiVectorMask and Normalize."
    )
