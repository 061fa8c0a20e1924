"""Checkpoints by path or hub id: where they are, and a hash of what decides their vectors."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from harness.models.checkpoints import packaged
from harness.models.checkpoints.adapters import refuse_adapter
from harness.models.checkpoints.modules_json import module_folders
from harness.models.errors import CheckpointError, first_line

# one file or the index of its shards, in the order in which they are looked for
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json")
# what decides the vectors of a checkpoint; read-me files and training states do not
_HASHED = re.compile(
    r"(config|config_sentence_transformers|cross_encoder|hybrid|modules|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json|vocab\.txt|merges\.txt"
    r"|artifact\.metadata|.*\.safetensors|pytorch_model.*\.bin|cls_projection\.bin|.*\.model|sentence_.*_config\.json"
)
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def locate(name: str, revision: str | None = None, also: Sequence[str] = ()) -> Path:
    """The folder of a checkpoint: a packaged model's name, a path, or a hub id, fetched into the Hugging Face cache.

    `also` are patterns of files to fetch beside those that every checkpoint may have.

    Raises CheckpointError that says what is missing, how to fetch it and where to put it; and for an adapter.
    """
    if name in packaged.NAMES:
        return packaged.chosen(name)
    path = Path(os.path.expanduser(name))  # noqa: PTH111  # pathlib's raises for a home that nobody has
    if path.is_dir():
        refuse_adapter(path)
        if not any((path / name).is_file() for name in ("config.json", "modules.json")):
            raise CheckpointError(f"the checkpoint {path} has no config.json. Name a Hugging Face model folder.")
        return path
    if path.exists() or name.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(name):
        raise CheckpointError(f"the checkpoint {name} is not a folder. Name a Hugging Face model folder or a hub id.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = [
        "*.json",
        "artifact.metadata",
        "*.txt",
        "*.model",
        "README.md",  # which names the licence
        "model*.safetensors",
        "cls_projection.*",
        "*/*.json",
        "*/*.txt",
        "*/model*.safetensors",
        "*_Dense/pytorch_model.bin",
        "*_LayerNorm/pytorch_model.bin",
        *also,
    ]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
        # no safetensors there: the old format, loaded safely
        if not any((folder / inner / file).is_file() for file in WEIGHTS for inner in (".", "0_Transformer")):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*wanted, "*pytorch_model*.bin"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint {name} is no folder here, and could not be fetched from the Hugging Face hub "
            f"({first_line(error)}). "
            "Needed are config.json, model.safetensors (or pytorch_model.bin) and the tokenizer's files. Where there "
            f"is a network run `hf download {name} --local-dir FOLDER`, bring the folder here and name it instead "
            "(--checkpoint FOLDER, --rerank FOLDER, hf:FOLDER, base.checkpoint in a recipe; a gated model needs "
            "`hf auth login` first)."
        ) from error
    refuse_adapter(folder)
    return folder


def content_hash(folder: Path) -> str:
    """Hex SHA-256 over the names and bytes of whatever decides the vectors."""
    digest = hashlib.sha256()
    for inner in filter(Path.is_dir, [folder, *module_folders(folder)]):  # an empty one is lost in wheels and git
        for path in sorted(p for p in inner.iterdir() if p.is_file() and _HASHED.fullmatch(p.name)):
            with path.open("rb") as file:
                name = path.relative_to(folder).as_posix()
                digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()
