"""The folder of one training stage: unfinished beside its place, then there at one stroke, and never overwritten."""

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from harness.retrievers.errors import InputError
from harness.runtime.hashing import digest

MANIFEST, STARTED = "manifest.json", "stage.json"


class StageFolder:
    """`path` when it is finished, `path.partial` while it is not.

    `decides` is all that decides the stage's outcome, as JSON: its settings (`stage`), what it starts from, its data.
    What another recipe or other data made under the same name is refused, not overwritten; an unfinished stage that
    has saved nothing to go on from (files named by the pattern `saved`) is nothing to lose. `aside` are settings that
    decide nothing, so they may be others in a folder that an earlier version left.
    """

    def __init__(self, path: Path, decides: dict[str, Any], aside: Collection[str] = (), saved: str = "*") -> None:
        self.aside, self._saved_as = frozenset(aside), saved
        self.path, self.decides = path, self._of_weight(json.loads(json.dumps(decides, default=str)))
        self.partial = path.with_name(f"{path.name}.partial")

    @property
    def key(self) -> str:
        """The hash of what decides the stage; of a finished one, the one that it was finished under."""
        try:
            return str(json.loads((self.path / MANIFEST).read_text())["key"]) if self.finished else digest(self.decides)
        except InputError:
            return digest(self.decides)

    def _of_weight(self, decides: dict[str, Any]) -> dict[str, Any]:
        stage = decides.get("stage")
        if not isinstance(stage, dict):
            return decides
        return decides | {"stage": {name: value for name, value in stage.items() if name not in self.aside}}

    @property
    def finished(self) -> bool:
        """Whether it is there whole. Raises InputError where something else is."""
        return self._ours(self.path, MANIFEST)

    @property
    def begun(self) -> bool:
        """Whether an unfinished one is there to go on with. Raises InputError for another's that has saved its work."""
        return self._ours(self.partial, STARTED)

    @property
    def saved(self) -> bool:
        """Whether an unfinished one has left what it can go on from."""
        return any(path.name != STARTED for path in self.partial.glob(self._saved_as))

    def start(self) -> Path:
        """The folder to work in, made or found; after a kill it is there with what decides it, or not at all.

        What an unfinished attempt that saved nothing left there is removed.
        """
        if not self.begun or not self.saved:
            shutil.rmtree(self.partial, ignore_errors=True)
            new = self.partial.with_name(f".{self.partial.name}.new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            _write(new / STARTED, {"key": self.key, "decides": self.decides})
            new.rename(self.partial)
        return self.partial

    def finish(self, facts: dict[str, Any]) -> None:
        """Write the manifest and put the folder in its place."""
        _write(self.partial / MANIFEST, {"key": self.key, **facts, "decides": self.decides})
        mask = os.umask(0)
        os.umask(mask)
        for file in self.partial.rglob("*"):
            if file.is_dir():
                continue
            file.chmod(0o666 & ~mask)  # some writers give the owner alone the right to read
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        self.partial.rename(self.path)
        (self.path / STARTED).unlink()  # last, since an unfinished folder without it would be nobody's

    def _ours(self, folder: Path, name: str) -> bool:
        if not folder.exists():
            return False
        try:
            found = json.loads((folder / name).read_text())
            decides = self._of_weight(dict(found["decides"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder} is there and is no stage of a training (its {name} cannot be read). Name another "
                "--output, or remove it."
            ) from error
        if decides != self.decides and folder == self.partial and not self.saved:
            return False
        if decides != self.decides:
            raise InputError(
                f"{folder} was made by another recipe, from other data or by another version: "
                f"{'; '.join(dict.fromkeys(map(_of_data, differences(decides, self.decides)[:6])))}. It is left as it "
                "is. Name another --output, or "
                "remove it to train it anew."
            )
        return True


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """What differs between two JSON values, a line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{place}.{key}".lstrip("."))]
    return [] if old == new else [f"{place or 'all'} was {_short(old)}, is {_short(new)}"]


def _of_data(line: str) -> str:
    """A difference of contents as words: their hashes say nothing to anyone."""
    return "its texts or collections were others" if line.startswith("data ") or line.startswith("data.") else line


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _write(path: Path, value: Any) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(value, indent=1) + "\n")
    new.replace(path)
