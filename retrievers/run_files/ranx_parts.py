"""Parts of ranx, without the packages that only its plots and tests need.

`import ranx` brings matplotlib, seaborn, scipy.stats, pandas and ir_datasets, which takes longer than to score a run.
Its metrics need none of them. So the package is put in place here without running its `__init__`, which runs as soon as
anybody asks the package for more.
"""

import importlib.util
import sys
import threading
from importlib import import_module
from types import ModuleType
from typing import Any

from harness.retrievers.jit import kept

_alone_at_it = threading.RLock()  # a package half put in place is no use to another thread


def part(name: str) -> Any:
    """The sub-package or module `name` of ranx, such as `ranx.metrics`, with as little else as this release allows."""
    with _alone_at_it:
        return _part(name)


def _part(name: str) -> Any:
    if name in sys.modules:
        return sys.modules[name]
    if "ranx" not in sys.modules:
        try:
            return kept(lambda: _alone(name))
        except (ImportError, AttributeError):  # in this release the part needs more than itself
            for loaded in [loaded for loaded in sys.modules if loaded == "ranx" or loaded.startswith("ranx.")]:
                del sys.modules[loaded]
            kept(lambda: import_module("ranx"))
    return kept(lambda: import_module(name))


class _Later(ModuleType):
    """A package whose `__init__` has not run: it knows where its modules are, and runs when another name is wanted."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":  # what import systems and debuggers ask every module for
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _alone(name: str) -> ModuleType:
    spec = importlib.util.find_spec("ranx")
    if spec is None or spec.origin is None or spec.submodule_search_locations is None:
        raise ImportError("ranx is not installed")
    package = _Later("ranx")
    package.__spec__, package.__loader__, package.__package__ = spec, spec.loader, "ranx"
    package.__file__, package.__path__ = spec.origin, list(spec.submodule_search_locations)
    sys.modules["ranx"] = package
    found = import_module(name)
    from numba import config

    config.THREADING_LAYER = "workqueue"  # as ranx sets it
    return found
