"""What the files of a checkpoint's folder say about how its backbone becomes a vector.

========================  =====================================================================================
layout                    what tells it, and what it says
========================  =====================================================================================
ours                      `hybrid.json`: everything (`harness.models.hybrid`)
sentence-transformers     `modules.json`: a chain of Transformer, Pooling, Dense, LayerNorm, Normalize; or, of a
                          sparse encoder, MLMTransformer and SpladePooling (GTR, TAS-B, SPLADE, all-MiniLM-L6-v2 …)
ANCE                      RoBERTa weights with `embeddingHead` and `norm`: LayerNorm(W h_CLS + b) (Xiong et al. 2021,
                          the authors' `RobertaDot_NLL_LN`)
plain                     none of these: the backbone, and the caller says the rest
========================  =====================================================================================

Nothing here loads a backbone. A chain that this project cannot make is an error that names the module.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from harness.models import hybrid
from harness.models.checkpoints import projection_layers
from harness.models.checkpoints.modules_json import MODULES, json_in, modules_in
from harness.models.checkpoints.projection_layers import Build
from harness.models.checkpoints.weights import names_in
from harness.models.errors import CheckpointError
from harness.models.hybrid import HybridSpec

_SETTINGS = "config_sentence_transformers.json"


@dataclass(frozen=True)
class Place:
    """What every layout has; `backbone` is the folder of config.json, weights and tokenizer."""

    kind: str
    folder: Path
    backbone: Path


@dataclass(frozen=True)
class Layout(Place):
    """`says` are fields of HybridSpec; `layers` come after the pooling, in order; `lowercase`: texts are, first."""

    says: dict[str, Any] = field(default_factory=dict)
    layers: tuple[Build, ...] = ()
    lowercase: bool = False

    def spec(self) -> HybridSpec:
        """What the folder says, over the defaults."""
        return HybridSpec(**self.says)

    @property
    def vocabulary(self) -> int:
        """V. Raises CheckpointError for a config.json that does not name it."""
        return _vocabulary(self.backbone)

    def after_pooling(self, hidden: int) -> nn.Sequential | None:
        """The layers, for a backbone of width `hidden`; None where there are none.

        Raises CheckpointError for a file that is missing, or weights of a shape that does not fit what comes before.
        """
        made: list[nn.Module] = []
        width = hidden
        for build in self.layers:
            made.append(build(width))
            width = next((p.shape[0] for p in made[-1].parameters()), width)
        return nn.Sequential(*made) if made else None


def read(folder: Path) -> Layout:
    """Say which layout `folder` has, and what it says.

    Raises CheckpointError for a malformed file or a chain that cannot be made here.
    """
    own = hybrid.read(folder)
    if own is not None:
        return Layout("ours", folder, folder, {name: getattr(own, name) for name in own.__dataclass_fields__})
    if (folder / MODULES).is_file():
        return _sentence_transformers(folder)
    if (folder / "artifact.metadata").is_file():
        raise CheckpointError(f"{folder} is a ColBERT checkpoint, which makes a vector of every token: run colbertv2.")
    if {"embeddingHead.weight", "norm.weight"} <= names_in(folder):
        says = {"pooling": "cls", "similarity": "dot"}
        layers = projection_layers.dense(folder, "embeddingHead"), projection_layers.layer_norm(folder)
        return Layout("ANCE", folder, folder, says, layers)
    return Layout("plain", folder, folder)


def demand(layout: Place, architecture: str | None, kind: str | None, system: str) -> None:
    """Raise CheckpointError where a folder is not of the architecture (`model_type`) or layout that `system` wants."""
    if kind is not None and layout.kind not in (kind, "ours"):
        marks = {"ANCE": "weights `embeddingHead` and `norm`", "sentence-transformers": "a modules.json"}
        lacks = f"it has {marks.get(kind, 'other files')}, which this folder lacks"
        raise CheckpointError(f"{layout.folder} is a {layout.kind} checkpoint, and {system} is a {kind} one: {lacks}.")
    found = json_in(layout.backbone / "config.json").get("model_type")
    if architecture is not None and found != architecture:
        raise CheckpointError(f"{layout.folder} is a {found!r} model, and {system} is a {architecture!r} one.")


def _sentence_transformers(folder: Path) -> Layout:
    modules = modules_in(folder)
    kinds = [kind for kind, _ in modules]
    if "MultiVectorMask" in kinds:
        raise _impossible(folder, kinds, "it makes a vector of every token; run it as colbertv2")
    if json_in(folder / _SETTINGS, {}).get("truncate_dim"):
        raise _impossible(folder, kinds, "its truncate_dim cuts the vectors, which is not done here")
    if kinds[:1] not in (["Transformer"], ["MLMTransformer"]):
        raise _impossible(folder, kinds, "it does not begin with a Transformer")
    backbone = folder / modules[0][1]
    says, lowercase = text_settings(folder, backbone, kinds)
    if kinds[0] == "MLMTransformer" or "SpladePooling" in kinds:
        if kinds[1:] != ["SpladePooling"]:
            raise _impossible(folder, kinds, "a sparse encoder is MLMTransformer, SpladePooling")
        says |= _splade(folder / modules[1][1], backbone)
        return Layout("sentence-transformers", folder, backbone, says, (), lowercase)
    if kinds[1:2] != ["Pooling"]:
        raise _impossible(folder, kinds, "Pooling does not come behind the Transformer")
    says |= {"pooling": _pooling(folder / modules[1][1]), "similarity": _similarity(folder)}
    rest = [module for module in modules[2:] if module[0] != "Dropout"]  # which does nothing but in training
    if rest and rest[-1][0] == "Normalize":
        says["similarity"] = "cosine"  # the same: of vectors of norm 1 the dot product is the cosine
        rest.pop()
    layers = tuple(_layer(folder, kind, path, kinds) for kind, path in rest)
    return Layout("sentence-transformers", folder, backbone, says, layers, lowercase)


def _layer(folder: Path, kind: str, path: str, kinds: list[str]) -> Build:
    if kind == "Normalize":
        return lambda _: projection_layers.Normalised()
    if kind == "LayerNorm":
        return projection_layers.layer_norm(folder / path)
    if kind != "Dense":
        raise _impossible(folder, kinds, f"{kind} is not known")
    config = json_in(folder / path / "config.json", {})
    if config.get("use_residual") or config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise _impossible(folder, kinds, f"{path} does not simply follow on the pooled state")
    return projection_layers.dense(folder / path, "linear", str(config.get("activation_function", "Tanh")))


def _impossible(folder: Path, kinds: list[str], why: str) -> CheckpointError:
    return CheckpointError(
        f"{folder / MODULES} is a chain of {', '.join(kinds) or 'nothing'}: {why}. There is Transformer, Pooling, then "
        "any of Dense, LayerNorm, Normalize, Dropout; or MLMTransformer, SpladePooling."
    )


def text_settings(folder: Path, backbone: Path, kinds: list[str]) -> tuple[dict[str, Any], bool]:
    """Lengths and prefixes as fields of HybridSpec, and whether texts are put in lower case first."""
    settings: dict[str, Any] = {}
    for path in sorted(backbone.glob("sentence_*_config.json")):  # an old release named them by the architecture
        settings |= json_in(path, {})
    length = settings.get("max_seq_length") or json_in(backbone / "tokenizer_config.json", {}).get("model_max_length")
    says: dict[str, Any] = {}
    for name, own in (("query_length", "query_length"), ("passage_length", "document_length")):
        chosen = settings.get(own) or length
        if isinstance(chosen, int | float) and 0 < chosen < 1e6:  # libraries write 10^30 for "none"
            says[name] = int(chosen)
    config = json_in(folder / _SETTINGS, {})
    prompts = config.get("prompts") or {}
    both = prompts.get(config.get("default_prompt_name") or "", "")
    says["query_prefix"] = prompts.get("query") or both
    says["passage_prefix"] = next((prompts[n] for n in ("document", "passage", "corpus") if prompts.get(n)), both)
    prompted = says["query_prefix"] or says["passage_prefix"]
    if prompted and "Pooling" in kinds:
        pooling = json_in(folder / modules_in(folder)[kinds.index("Pooling")][1] / "config.json", {})
        if not pooling.get("include_prompt", True):
            raise _impossible(folder, kinds, "its Pooling leaves the prompt's tokens out, which is not known here")
    return says, bool(settings.get("do_lower_case"))


def _pooling(folder: Path) -> str:
    config = json_in(folder / "config.json", {})
    old = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    mode = config.get("pooling_mode")
    if mode is None:
        active = [name for name, on in config.items() if name.startswith("pooling_mode_") and on]
        mode = old.get(active[0], active[0]) if len(active) == 1 else active or "mean"
    if mode not in hybrid.POOLINGS:
        raise CheckpointError(f"{folder} pools by {mode}; there is {', '.join(hybrid.POOLINGS)}.")
    return str(mode)


def _similarity(folder: Path) -> str:
    name = json_in(folder / _SETTINGS, {}).get("similarity_fn_name")
    if name not in (None, "dot", "cosine"):
        raise CheckpointError(f"{folder} compares vectors by {name}; there is dot, cosine.")
    # the library's own default is cosine, also where nothing is said
    return "dot" if name == "dot" else "cosine"


def _splade(folder: Path, backbone: Path) -> dict[str, Any]:
    config = json_in(folder / "config.json", {})
    pooling, activation = config.get("pooling_strategy", "max"), config.get("activation_function", "relu")
    if pooling not in hybrid.LEXICAL_POOLINGS or activation != "relu":
        raise CheckpointError(
            f"{folder} pools by {pooling} with activation {activation}; there is max and sum of log(1 + relu)."
        )
    terms = {"lexical": _vocabulary(backbone), "lexical_tokens": "all"}
    return {"dense": 0, "lexical_pooling": pooling, "activation": "log1p_relu"} | terms


def _vocabulary(backbone: Path) -> int:
    found = json_in(backbone / "config.json", {}).get("vocab_size")
    if not isinstance(found, int):
        raise CheckpointError(f"{backbone / 'config.json'} names no vocab_size.")
    return found
