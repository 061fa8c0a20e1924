"""The files of a repository by configuration and split, as `datasets.load_dataset` would find them.

The README's head may name them (`configs:`). Where it does not, names do: `corpus.jsonl`, `corpus/train-*.parquet`,
`qrels/test.tsv`, and `test.tsv` at the top for the configuration `default`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from harness.retrievers.errors import InputError

Splits = dict[str, list[Path]]  # by name, in order of the files' names
README = "README.md"
ENDS = (".parquet", ".jsonl", ".json", ".ndjson", ".tsv")
_PACKED = (".gz", ".xz", ".bz2")
_DEFAULT_SPLIT = "train"  # where nothing names one
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})")
_POINTER = b"version https://git-lfs"


def configurations(folder: Path) -> dict[str, Splits]:
    """{configuration: {split: files}} of a folder. Raises InputError for a README whose head cannot be read."""
    entries = declared(folder)
    if not entries:
        return _by_names(folder)
    return {name: _declared_splits(folder, name, entry) for name, entry in entries.items()}


def declared(folder: Path) -> dict[str, Mapping[str, Any]]:
    """What the README's head says of each configuration; empty where it says nothing.

    Raises InputError for a head that is not YAML, or configurations without a name.
    """
    path = folder / README
    try:
        words = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}). It names the configurations of the dataset.") from error
    head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", words, re.DOTALL)
    try:
        said = yaml.safe_load(head[1]) if head else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: its head is not YAML: {' '.join(str(error).split())}.") from error
    entries = said.get("configs") if isinstance(said, dict) else None
    if entries is None:
        return {}
    if not isinstance(entries, list) or not all(isinstance(e, dict) and e.get("config_name") for e in entries):
        raise InputError(f"{path}: its `configs` are not a list of entries with a config_name. Correct the README.")
    return {str(entry["config_name"]): entry for entry in entries}


def patterns(entry: Mapping[str, Any]) -> list[str]:
    """Where the files of a configuration lie, as globs: what of a repository has to be fetched for it."""
    found = [pattern for group in _patterns(entry).values() for pattern in group]
    return found or [f"{str(entry.get('data_dir', entry['config_name'])).strip('/')}/*"]


def _patterns(entry: Mapping[str, Any]) -> dict[str, list[str]]:
    """{split: globs} of `data_files`, which is one glob, a list of them, or globs by split."""
    data_files = entry.get("data_files")
    if data_files is None:
        return {}
    if isinstance(data_files, Mapping):
        return {str(split): _listed(paths) for split, paths in data_files.items()}
    found: dict[str, list[str]] = {}
    for one in data_files if isinstance(data_files, list) else [data_files]:
        split, paths = (one.get("split"), one.get("path")) if isinstance(one, Mapping) else (_DEFAULT_SPLIT, one)
        found.setdefault(str(split), []).extend(_listed(paths))
    return found


def _listed(paths: Any) -> list[str]:
    return [str(path) for path in (paths if isinstance(paths, list) else [paths])]


def _declared_splits(folder: Path, name: str, entry: Mapping[str, Any]) -> Splits:
    inner = folder / str(entry.get("data_dir") or "")
    globs = _patterns(entry)
    if not globs:
        return _splits_of(name, inner, _files(inner)) if inner != folder else _by_names(folder).get(name, {})
    return {split: _matching(folder, inner, paths) for split, paths in globs.items()}


def _matching(folder: Path, inner: Path, globs: Sequence[str]) -> list[Path]:
    """The files that globs name, in order. Raises InputError for a glob that leads out of the folder."""
    found: dict[Path, None] = {}
    for glob in globs:
        if "://" in glob or glob.startswith("/") or ".." in PurePosixPath(glob).parts:
            raise InputError(f"{folder / README} names files elsewhere ({glob}); want paths in the repository.")
        found |= dict.fromkeys(sorted(path for path in inner.glob(glob.removeprefix("./")) if path.is_file()))
    return list(found)


def _files(folder: Path) -> list[Path]:
    """The data files in a folder and below it, in order of their names; none of hidden folders."""
    found = [path for path in folder.rglob("*") if _stem(path.name) is not None and path.is_file()]
    return sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts))


def _stem(name: str) -> str | None:
    """A data file's name without what says how it is written; None for any other file."""
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return next((name.removesuffix(end) for end in ENDS if name.endswith(end)), None)


def _by_names(folder: Path) -> dict[str, Splits]:
    found: dict[str, Splits] = {}
    inside: dict[str, list[Path]] = {}
    for path in _files(folder):
        relative = path.relative_to(folder)
        if len(relative.parts) > 1:
            inside.setdefault(relative.parts[0], []).append(path)
            continue
        stem = _stem(path.name) or ""
        name, split = ("default", _split_of(stem)) if _split_of(stem) else (stem, _DEFAULT_SPLIT)
        found.setdefault(name, {}).setdefault(split or _DEFAULT_SPLIT, []).append(path)
    for name, paths in inside.items():
        for split, files in _splits_of(name, folder / name, paths).items():
            found.setdefault(name, {}).setdefault(split, []).extend(files)
    return found


def _splits_of(name: str, folder: Path, paths: Sequence[Path]) -> Splits:
    """The files of one configuration by split: a folder's name, else a word in the file's, else (of judgments) all."""
    found: Splits = {}
    for path in paths:
        relative = path.relative_to(folder)
        stem = _without_shard(_stem(path.name) or "")
        if len(relative.parts) > 1:
            split = relative.parts[0]
        else:
            split = _split_of(stem) or (stem if name.endswith("qrels") else _DEFAULT_SPLIT)
        found.setdefault(split, []).append(path)
    return found


def _without_shard(stem: str) -> str:
    found = _SHARD.fullmatch(stem)
    return found[1] if found else stem


def _split_of(stem: str) -> str | None:
    """The split that a word of a file's name stands for."""
    for word in reversed(re.split(r"[-_.]", _without_shard(stem))):
        if word in _SPLITS or any(word in others for others in _SPLITS.values()):
            return word
    return None


def same_split(a: str, b: str) -> bool:
    """Whether two names are of one split: `dev` and `validation` are."""
    return a == b or any(a in names and b in names for names in _SPLITS.values())


def check(files: Sequence[Path], what: str) -> None:
    """Raise InputError where files of a split are absent, or a Git LFS pointer stands in the place of one."""
    shards: dict[str, list[int]] = {}
    for path in files:
        if found := _SHARD.fullmatch(_stem(path.name) or ""):
            shards.setdefault(f"{path.parent / found[1]}-*-of-{found[3]}", []).append(int(found[3]))
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise InputError(f"{path} is a Git LFS pointer, not the data. Run `git lfs pull` there.")
    for pattern, of in shards.items():
        if len(of) < of[0]:
            raise InputError(f"{what}: {len(of)} of the {of[0]} files {pattern} are here. Fetch the others too.")


def listed(found: Mapping[str, Splits]) -> str:
    """The configurations and their splits, in words."""

    def words() -> Iterator[str]:
        for name, splits in found.items():
            yield f"{name} ({', '.join(splits)})" if splits else name

    return ", ".join(words()) or "none"
