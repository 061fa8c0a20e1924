"""Evaluate and train retrievers: command line, data sets, metrics, runs, training, checks.

As a library, in three lines (`harness.api` says what each function takes):

    import harness
    run = harness.run("bm25", "mini")
    print(run.metrics["NDCG@10"], harness.compare(run, harness.run("dupmae", "mini", checkpoint="FOLDER")))

A plug-in finds here all that it needs: `Retriever`, `Options`, `register`, `Run` and so on (docs/new-retriever.md).

Names are imported when they are first used: `import harness` is quick. `__init__.pyi` has their types.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from harness.version import __version__

_API = ("Ranking", "Result", "compare", "export", "fuse", "read", "retrieve", "run", "score")
_HOMES = {
    **dict.fromkeys(_API, "harness.api"),
    "InputError": "harness.retrievers.errors",
    **dict.fromkeys(
        ("About", "Identity", "Options", "PaperRow", "Retriever", "register"), "harness.retrievers.registry"
    ),
    **dict.fromkeys(("Corpus", "Document", "Job", "Query", "Run"), "harness.retrievers.types"),
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  # names, made of the keys

for _name in ("models", "reports", "retrievers"):
    _link = Path(__file__).with_name(_name)
    if _link.is_file():  # what git leaves of a symbolic link where core.symlinks is off
        raise ImportError(
            f"{_link} is a text file where a symbolic link to ../{_name} belongs: git checked it out without support "
            f"for symbolic links. Run `git config core.symlinks true && rm harness/{_name} && git checkout "
            f"harness/{_name}` (on Windows with developer mode on), or install a wheel."
        )


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}; there is {', '.join(_HOMES)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
