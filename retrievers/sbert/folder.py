"""What a sentence-transformers folder says of itself, read without that library, and which of it nobody runs."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.models.checkpoints.adapters import refuse_adapter
from harness.models.checkpoints.modules_json import MODULES, SETTINGS, json_in, modules_in, prompts_in
from harness.retrievers.errors import InputError

Kind = Literal["dense", "lexical"]
Backend = Literal["torch", "onnx", "openvino"]
SIMILARITIES = ("dot", "cosine")  # what the exact search knows
_DEFAULT_SIMILARITY: dict[Kind, str] = {"dense": "cosine", "lexical": "dot"}  # the library's own
_KINDS: dict[str, Kind] = {"SentenceTransformer": "dense", "SparseEncoder": "lexical"}
_OTHERS = {
    "CrossEncoder": "a cross-encoder: it scores pairs and has no vectors. Re-rank with it: --rerank FOLDER",
    "MultiVectorEncoder": "a late-interaction model, a vector for each token. Run it as colbertv2 --checkpoint FOLDER",
}
_LIBRARY = "sentence_transformers."
_ROUTER = ("router_config.json", "config.json")  # in the order in which the library looks for them
# files that decide the vectors: settings, tokenizers and weights, but nothing that a trainer leaves beside them
_DECISIVE = {".json", ".txt", ".model", ".jinja", ".safetensors", ".bin", ".onnx", ".onnx_data", ".xml"}
_ASIDE = {"trainer_state.json", "training_args.bin", "model_card.json"}


class About(NamedTuple):
    """What a folder says of its use."""

    kind: Kind
    similarity: str  # dot, cosine, or what the exact search does not know
    prompts: dict[str, str]


def read(folder: Path) -> About:
    """Read and check a folder.

    Raises InputError for a model of another kind, or one that needs code from outside of sentence-transformers;
    CheckpointError for files that are malformed, and for adapters.
    """
    if (folder / "hybrid.json").is_file():
        raise InputError(
            f"{folder} is a checkpoint in our own layout, whose halves are read as hf:{folder}. Name that."
        )
    settings = json_in(folder / SETTINGS, {})
    named = str(settings.get("model_type") or "SentenceTransformer")
    if named not in _KINDS:
        what = _OTHERS.get(named, f"a {named}, of which nothing here makes vectors. Want {' or '.join(_KINDS)}")
        raise InputError(f"{folder} is {what}.")
    for part in parts(folder):
        refuse_adapter(part)
    kind = _KINDS[named]
    prompts = {"query": "", "document": ""} | {name: text or "" for name, text in prompts_in(folder).items()}
    return About(kind, str(settings.get("similarity_fn_name") or _DEFAULT_SIMILARITY[kind]), prompts)


def parts(folder: Path) -> list[Path]:
    """The folder itself, and those of its modules and of a Router's modules.

    Raises InputError for a module whose class is not sentence-transformers' own: importing it would run code that the
    folder chooses.
    """
    found = [folder]
    if (folder / MODULES).is_file():
        paths = [path for _, path in modules_in(folder)]  # which checks the file
        types = [str(module["type"]) for module in json_in(folder / MODULES, wanted=list)]
        for name, path in zip(types, paths, strict=True):
            _check_class(folder, name)
            if (folder / path).is_dir():
                found += [folder / path] if path else []
                found += _routed(folder / path) if name.endswith((".Router", ".Asym")) else []
    return found


def _routed(router: Path) -> Iterator[Path]:
    """The folders of a Router's modules, and of Routers within."""
    config = next((router / name for name in _ROUTER if (router / name).is_file()), None)
    types: Any = json_in(config).get("types") if config else None
    for path, name in (types if isinstance(types, dict) else {}).items():
        _check_class(router, str(name))
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise InputError(f"{config} names the path {path!r}, outside of its folder.")
        if (router / path).is_dir():
            yield router / path
            if str(name).endswith((".Router", ".Asym")):
                yield from _routed(router / path)


def _check_class(folder: Path, name: str) -> None:
    if not name.startswith(_LIBRARY):
        raise InputError(
            f"{folder} needs {name[:80]}, which is not part of sentence-transformers. Code that a checkpoint brings or "
            "names is never run here; encode with it yourself, and hand a function to harness.run."
        )


def content_hash(folder: Path, backend: Backend) -> str:
    """Hex SHA-256 over the names and bytes of all files that may decide the vectors.

    For another backend than torch that includes its own folder (`onnx/`, `openvino/`) beside each module.
    """
    places = [place for part in parts(folder) for place in (part, part / backend) if place.is_dir()]
    files = {path for place in places for path in place.iterdir() if path.suffix in _DECISIVE and path.is_file()}
    digest = hashlib.sha256()
    for path in sorted(files):
        if path.name not in _ASIDE:
            with path.open("rb") as file:
                name = path.relative_to(folder).as_posix()
                digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()
