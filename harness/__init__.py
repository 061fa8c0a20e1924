"""The way in and the conductor: command line, data sets, scoring, runs.

As a library, in three lines (`harness.api` says what each function takes):

    import harness
    run = harness.run("bm25", "mini")
    print(run.metrics["NDCG@10"], harness.compare(run, harness.run("dupmae", "mini", checkpoint="FOLDER")))

The functions are imported when they are first asked for: `import harness` is quick. `__init__.pyi` has their types.
"""

from importlib import import_module
from typing import Any

from harness.version import __version__

_API = ("Ranking", "Result", "compare", "export", "fuse", "read", "retrieve", "run", "score")

__all__ = ["__version__", *_API]  # noqa: PLE0604  # names, made of a tuple of names


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(import_module("harness.api"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}; there is {', '.join(_API)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_API})
