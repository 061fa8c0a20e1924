"""Weights from files: tensors only, nobody's code run, and what is missing said in one line."""

import inspect
import json
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from harness.models.checkpoints.hub import WEIGHTS
from harness.models.errors import CheckpointError, NoLexicalHalfError, first_line

ENCODER_HALVES = ("t5",)  # encoder-decoders of which the encoder alone is used
_LAYER = re.compile(r"(?:^|\.)(?:encoder\.(?:layer|layers|block)|transformer\.layer)\.\d+\.")  # an encoder's


def tensors_only(path: Path) -> dict[str, Any]:
    """The tensors of a .safetensors or .bin file by name.

    Raises CheckpointError for a file that is damaged or holds more than tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors, so it is not loaded: {first_line(error)}"
        ) from error
    return state if isinstance(state, dict) else {}


def tensors_in(folder: Path) -> dict[str, Any]:
    """The tensors of a folder's weights by name, which may lie in one file or in several (shards).

    Raises CheckpointError where there are none, for an index that cannot be read, a shard that is not there, and as
    `tensors_only`.
    """
    file = _weights(folder)
    if file is None:
        raise CheckpointError(f"{folder} has no weights: none of {', '.join(WEIGHTS)}. Fetch the folder again, whole.")
    if file.suffix != ".json":
        return tensors_only(file)
    try:
        shards = sorted({Path(str(name)).name for name in _weight_map(file).values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} is damaged: {first_line(error)}. Fetch the folder again, whole.") from error
    if missing := [name for name in shards if not (folder / name).is_file()]:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}, which {file.name} names. Fetch it again, whole.")
    return {name: tensor for shard in shards for name, tensor in tensors_only(folder / shard).items()}


def names_in(folder: Path) -> set[str]:
    """The names of a folder's tensors, read from the safetensors header or index where there is one.

    Empty where there are no weights, or none that can be read: loading them raises the error.
    """
    from safetensors import SafetensorError, safe_open

    file = _weights(folder)
    try:
        if file is None:
            return set()
        if file.suffix == ".json":
            return set(_weight_map(file))
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                return set(opened.keys())
        return set(torch.load(file, map_location="meta", weights_only=True, mmap=True))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, pickle.UnpicklingError, RuntimeError, EOFError):
        return set()


def _weights(folder: Path) -> Path | None:
    """The file that holds a folder's weights, or the index of its shards: the one that `transformers` takes."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def _weight_map(index: Path) -> dict[str, str]:
    return dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])


def load_model(folder: Path, config: Any, with_head: bool, dtype: torch.dtype) -> Any:
    """The model in `folder`, with its masked-LM head or without.

    Raises CheckpointError for weights that do not fit it.
    """
    from transformers import MODEL_MAPPING, AutoModel, AutoModelForMaskedLM, T5EncoderModel

    halves = {"t5": T5EncoderModel}
    kind = AutoModelForMaskedLM if with_head else halves.get(config.model_type, AutoModel)
    settings = {"config": config, "trust_remote_code": False, "local_files_only": True, "dtype": dtype}
    if not with_head and "add_pooling_layer" in inspect.signature(MODEL_MAPPING[type(config)]).parameters:
        settings["add_pooling_layer"] = False
    try:
        with quiet():
            model, info = kind.from_pretrained(folder, output_loading_info=True, **settings)
    except Exception as error:  # torch, safetensors and transformers each have their own ways to fail
        raise CheckpointError(
            f"the weights in {folder} do not fit its config.json, are damaged, or cannot be loaded safely "
            f"({type(error).__name__}: {first_line(error)[:120]})."
        ) from error
    missing = sorted(info["missing_keys"])
    if missing and with_head and not any(name.startswith(f"{model.base_model_prefix}.") for name in missing):
        raise NoLexicalHalfError(
            f"{folder} has no masked-LM head ({', '.join(missing[:3])} …), and a lexical half is made of its logits. "
            "Name a masked-LM checkpoint, or ask for the dense half alone (lexical 0)."
        )
    if missing:
        raise CheckpointError(
            f"{folder} lacks weights of its own architecture: {', '.join(missing[:5])}. It is damaged or foreign."
        )
    if beyond := sorted(name for name in info["unexpected_keys"] if _LAYER.search(name)):
        raise CheckpointError(
            f"{folder} has weights of layers that its config.json does not count ({beyond[0]}, {len(beyond)} in all; "
            f"num_hidden_layers is {getattr(config, 'num_hidden_layers', '?')}). One of the two is damaged or foreign."
        )
    return model


def positions(config: Any) -> int:
    """The most tokens that a model has positions for; very many where its positions are relative."""
    # RoBERTa-like models count positions from their padding id, so the first of the table are not for tokens
    padding = {"roberta": config.pad_token_id, "xlm-roberta": config.pad_token_id, "camembert": config.pad_token_id}
    unused = 2 if config.model_type == "mpnet" else int(padding.get(config.model_type, -1)) + 1
    return int(getattr(config, "max_position_embeddings", 1 << 30)) - unused


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' load report to itself: we check what is missing, and say so in one line."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
