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
from harness.models.checkpoints.adapters import refuse_adapter
from harness.models.checkpoints.modules_json import MODULES, SETTINGS, json_in, modules_in, prompts_in
from harness.models.checkpoints.projection_layers import Build
from harness.models.checkpoints.weights import names_in, positions
from harness.models.errors import CheckpointError, first_line
from harness.models.hybrid import HybridSpec

_VECTOR = "sentence_embedding"  # what the library calls the pooled state, and whatever it becomes
# of the Transformer, by the architecture in old releases; the library takes the first that says anything
_OF_TRANSFORMER = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_NONE = 1e6  # tokens; libraries write 10^30 for "no limit"
# what these settings may be, where they decide the vectors; of all others each is read, or has no say in them
_USUAL: dict[str, tuple[Any, ...]] = {
    "transformer_task": (None, "feature-extraction", "fill-mask"),
    "module_output_name": (None, "token_embeddings"),
    **dict.fromkeys(
        ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs"), (None, {})
    ),
    "processing_kwargs": (None, {}),
}
_READ = {"max_seq_length", "do_lower_case", "query_length", "document_length", "query_expansion", "modality_config"}
_WITHOUT_SAY = {"unpad_inputs"}


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
    if left := [name for name in (SETTINGS, *_OF_TRANSFORMER, "1_Pooling") if (folder / name).exists()]:
        raise CheckpointError(
            f"{folder} has {', '.join(left)} of sentence-transformers, and no {MODULES}, which says how they go "
            "together. Fetch the folder again, whole; or remove them for a plain encoder."
        )
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
    if json_in(folder / SETTINGS, {}).get("truncate_dim") is not None:
        raise _impossible(folder, kinds, "its truncate_dim cuts the vectors, which is not done here")
    if kinds[:1] not in (["Transformer"], ["MLMTransformer"]):
        raise _impossible(folder, kinds, "it does not begin with a Transformer")
    refuse_foreign(folder)
    backbone = folder / modules[0][1]
    refuse_adapter(backbone)
    if transformer_settings(backbone).get("query_expansion"):
        raise _impossible(folder, kinds, "its Transformer fills queries up, which a single vector does not need")
    says, lowercase = text_settings(folder, backbone, kinds)
    if kinds[0] == "MLMTransformer" or "SpladePooling" in kinds:
        if kinds[1:] != ["SpladePooling"]:
            raise _impossible(folder, kinds, "a sparse encoder is MLMTransformer, SpladePooling")
        settings = json_in(folder / SETTINGS, {})
        if settings.get("similarity_fn_name") not in (None, "dot"):
            raise _impossible(
                folder, kinds, f"it compares by {settings['similarity_fn_name']}, and a sparse one by dot"
            )
        if settings.get("max_active_dims") is not None:
            raise _impossible(folder, kinds, "its max_active_dims cuts the vectors, which is not done here")
        says |= _splade(folder / modules[1][1], backbone)
        return Layout("sentence-transformers", folder, backbone, says, (), lowercase)
    if kinds[1:2] != ["Pooling"]:
        raise _impossible(folder, kinds, "Pooling does not come behind the Transformer")
    says |= {"pooling": _pooling(folder / modules[1][1]), "similarity": _similarity(folder)}
    rest = [module for module in modules[2:] if module[0] != "Dropout"]  # which does nothing but in training
    for kind, path in rest:
        if kind == "Normalize":
            _on_the_vector(json_in(folder / path / "config.json", {}), path, folder, kinds)
    while rest and rest[-1][0] == "Normalize":  # once more changes nothing
        says["similarity"] = "cosine"  # the same: of vectors of norm 1 the dot product is the cosine
        rest.pop()
    layers = tuple(_layer(folder, kind, path, kinds) for kind, path in rest)
    return Layout("sentence-transformers", folder, backbone, says, layers, lowercase)


def _layer(folder: Path, kind: str, path: str, kinds: list[str]) -> Build:
    if kind == "Normalize":
        return lambda _: projection_layers.Normalised()
    if kind not in ("LayerNorm", "Dense"):
        raise _impossible(folder, kinds, f"{kind} is not known")
    config = json_in(folder / path / "config.json")
    if kind == "LayerNorm":
        return projection_layers.layer_norm(folder / path)
    _on_the_vector(config, path, folder, kinds)
    return projection_layers.dense(folder / path, "linear", activation_of(config, folder / path), config.get("bias"))


def activation_of(config: dict[str, Any], folder: Path) -> str:
    """The class of a Dense's activation. Raises CheckpointError for one from outside torch, which would be run."""
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if not str(name).startswith("torch."):
        raise CheckpointError(f"{folder}: the activation {name} is not torch's own, and nobody's code is run.")
    return str(name)


def _on_the_vector(config: dict[str, Any], path: str, folder: Path, kinds: list[str]) -> None:
    """Raise CheckpointError for a layer that does something else than turn the vector into another."""
    ports = [config.get(name) or _VECTOR for name in ("module_input_name", "module_output_name")]
    if ports != [_VECTOR, _VECTOR] or config.get("use_residual"):
        raise _impossible(folder, kinds, f"{path} does not simply follow on the pooled state")


def _impossible(folder: Path, kinds: list[str], why: str) -> CheckpointError:
    return CheckpointError(
        f"{folder / MODULES} is a chain of {', '.join(kinds) or 'nothing'}: {why}. There is Transformer, Pooling, then "
        "any of Dense, LayerNorm, Normalize, Dropout; or MLMTransformer, SpladePooling."
    )


def refuse_foreign(folder: Path) -> None:
    """Raise CheckpointError for modules that are not the library's own, or of which two have one name."""
    found = json_in(folder / MODULES, wanted=object)
    for module in found:
        if not str(module["type"]).startswith("sentence_transformers."):
            raise CheckpointError(f"{folder / MODULES} names {module['type']}, and nobody's code is run.")
    names = [module["name"] for module in found if "name" in module]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise CheckpointError(
            f"{folder / MODULES} has two modules of the name {twice[0]!r}, of which one would be lost."
        )


def transformer_settings(backbone: Path) -> dict[str, Any]:
    """What sentence-transformers keeps of its Transformer beside the backbone.

    Raises CheckpointError for a setting that decides the vectors and is not known here.
    """
    path, settings = backbone, dict[str, Any]()
    for name in _OF_TRANSFORMER:
        path = backbone / name
        if settings := json_in(path, {}):
            break
    for name, value in settings.items():
        if name not in _READ | _WITHOUT_SAY and value not in _USUAL.get(name, ()):
            raise CheckpointError(f"{path}: {name} is {value!r:.60}, which is not known here.")
    modalities = settings.get("modality_config") or {}
    text = (modalities.get("text") if isinstance(modalities, dict) else modalities) or {"method": "forward"}
    if not isinstance(text, dict):
        raise CheckpointError(f"{path}: modality_config is {modalities!r:.60}, which is not known here.")
    if text.get("method") != "forward" or text.get("method_output_name") not in (None, "last_hidden_state", "logits"):
        raise CheckpointError(f"{path}: modality_config has {text!r:.60} for texts, which is not known here.")
    return settings


def _length(settings: dict[str, Any], backbone: Path) -> int | None:
    """Tokens of a text, as the library cuts it: as set, else as tokenizer and positions allow; None: at no length."""
    from transformers import AutoConfig

    if (said := settings.get("max_seq_length")) is not None:
        return _tokens(_number(said, "max_seq_length", backbone))
    known = [_tokens(json_in(backbone / "tokenizer_config.json", {}).get("model_max_length"))]
    try:
        config = AutoConfig.from_pretrained(backbone, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever the libraries make of a malformed file
        raise CheckpointError(f"{backbone} lacks a readable config.json ({first_line(error)}).") from error
    if (most := getattr(config, "max_position_embeddings", -1)) != -1:
        known += [_tokens(most), _tokens(positions(config))]
    return min((length for length in known if length is not None), default=None)


def _number(value: Any, name: str, backbone: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _NONE:
        raise CheckpointError(f"{backbone}: its settings for sentence-transformers say {name} {value!r}; want tokens.")
    return value


def _tokens(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < _NONE else None


def text_settings(folder: Path, backbone: Path, kinds: list[str]) -> tuple[dict[str, Any], bool]:
    """Lengths and prefixes as fields of HybridSpec, and whether texts are put in lower case first."""
    settings = transformer_settings(backbone)
    length = _length(settings, backbone)
    says: dict[str, Any] = {}
    for name, own in (("query_length", "query_length"), ("passage_length", "document_length")):
        chosen = length if settings.get(own) is None else _tokens(_number(settings[own], own, backbone))
        if chosen is None:
            raise CheckpointError(
                f"{folder} says nowhere how long a text may be, and its model has no greatest length. Write "
                '{"max_seq_length": 512}, or another number, into ' + f"{backbone / _OF_TRANSFORMER[0]}."
            )
        says[name] = chosen
    prompts = prompts_in(folder)
    # what encode_query and encode_document put first: "" where there is no such prompt, never the default one
    says["query_prefix"], says["passage_prefix"] = prompts.get("query") or "", prompts.get("document") or ""
    prompted = says["query_prefix"] or says["passage_prefix"]
    if prompted and "Pooling" in kinds:
        pooling = json_in(folder / modules_in(folder)[kinds.index("Pooling")][1] / "config.json", {})
        if not pooling.get("include_prompt", True):
            raise _impossible(folder, kinds, "its Pooling leaves the prompt's tokens out, which is not known here")
    return says, bool(settings.get("do_lower_case"))


def _pooling(folder: Path) -> str:
    config = json_in(folder / "config.json")
    if not {"embedding_dimension", "word_embedding_dimension"} & config.keys():
        raise CheckpointError(f"{folder / 'config.json'} names no embedding_dimension. Fetch the folder again, whole.")
    old = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    mode = config.get("pooling_mode")
    mode = mode[0] if isinstance(mode, list) and len(mode) == 1 else mode
    if "pooling_mode" not in config:
        active = [name for name, on in config.items() if name.startswith("pooling_mode_") and on]
        mode = old.get(active[0], active[0]) if len(active) == 1 else active or "mean"
    if mode not in hybrid.POOLINGS:
        raise CheckpointError(f"{folder} pools by {mode}; there is {', '.join(hybrid.POOLINGS)}.")
    return str(mode)


def _similarity(folder: Path) -> str:
    name = json_in(folder / SETTINGS, {}).get("similarity_fn_name")
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
