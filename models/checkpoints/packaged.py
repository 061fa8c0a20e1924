"""The small models that this project trained and packs: a folder each under `models/data`, known by a name.

A name of these is reserved wherever a checkpoint is named (`harness.models.checkpoints.hub.locate`). It is never looked
for on the Hugging Face hub; and where a folder of that name lies here as well, neither is taken in silence: that is an
error.
"""

from pathlib import Path

from harness.models.errors import CheckpointError

NAMES = ("dupmae-mini", "retromae-mini")
FOLDER = Path(__file__).parents[1] / "data"


def there(name: str) -> bool:
    """Whether the weights called `name` are in this installation."""
    return (FOLDER / name / "config.json").is_file()


def folder(name: str) -> Path:
    """The folder of the packaged model `name`. Raises CheckpointError where this installation lacks it."""
    if not there(name):
        raise CheckpointError(
            f"{name} is a model of this package, and this installation lacks its weights (there is no "
            f"{FOLDER / name}). Install the package again, or name another model with --checkpoint."
        )
    return FOLDER / name


def chosen(name: str) -> Path:
    """The same for a name that somebody typed, which may mean a folder here as well.

    Raises CheckpointError where it does, and as `folder`.
    """
    if Path(name).exists():
        raise CheckpointError(
            f"{name} is a model of this package, and {Path(name).absolute()} has the same name. Write ./{name} for the "
            "one that lies here; for the packaged one call the command from elsewhere, or rename what lies here."
        )
    return folder(name)
