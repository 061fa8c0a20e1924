"""Evaluate and train retrievers: command line, data sets, metrics, runs, training, checks.

As a library, in three lines (`harness.api` says what each function takes):

    import harness
    run = harness.run("bm25", "mini")
    print(run.metrics["NDCG@10"], harness.compare(run, harness.run("dupmae", "mini", checkpoint="FOLDER")))

A plug-in finds here all that it needs: `Retriever`, `Options`, `register`, `Run` and so on (docs/new-retriever.md).

Names are imported when they are first used: `import harness` is quick. `__init__.pyi` has their types.
"""

import random
from importlib import import_module
from pathlib import Path
from typing import Any

from harness.version import __version__

_API = ("Ranking", "Result", "Tuned", "compare", "export", "fuse", "mteb", "read", "retrieve", "run", "score", "tune")
_HOMES = {
    **dict.fromkeys(_API, "harness.api"),
    "InputError": "harness.retrievers.errors",
    **dict.fromkeys(
        ("About", "Identity", "Options", "PaperRow", "Retriever", "register"), "harness.retrievers.registry"
    ),
    **dict.fromkeys(("Corpus", "Document", "Job", "Query", "Run"), "harness.retrievers.types"),
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  # names, made of the keys

_LINKED = ("models", "reports", "retrievers")


def _check_links(folder: Path) -> None:
    """Raise ImportError where a link to one of the other three folders is missing, or git wrote it as a text file."""
    if lost := [name for name in _LINKED if not (folder / name).is_dir()]:
        links = " ".join(f"harness/{name}" for name in _LINKED)
        raise ImportError(
            f"{folder} lacks {', '.join(lost)}: each is a symbolic link to the folder of that name beside harness/, "
            "lost when the checkout was made or copied, as by a git without support for symbolic links. In the "
            f"checkout, run `git config core.symlinks true && rm -f {links} && git checkout -- {links}` (on Windows "
            "with developer mode on), or install a wheel."
        )


_check_links(Path(__file__).parent)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        numbers = random.getstate()  # rich draws some when it is imported
        try:
            return getattr(import_module(_HOMES[name]), name)
        finally:
            random.setstate(numbers)
    raise AttributeError(f"module 'harness' has no attribute {name!r}; there is {', '.join(_HOMES)}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
