"""`python tests/support/pretended_cuda/pretend.py [--only PACKAGE,…] -m MODULE ARGUMENT…`: with a pretended GPU.

Runs a module where torch has one. With `--only` the harness can import these packages and what they need, and no other.

`device.cpp` is compiled against the installed torch, and found again until torch, the compiler or the source change.
Exit status 3 where there is no C++ compiler.
"""

import builtins
import contextlib
import ctypes
import hashlib
import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.retrievers.places import compiled_code

SOURCE = Path(__file__).with_name("device.cpp")
NO_COMPILER = 3


def compiler() -> str | None:
    """The C++ compiler: $CXX, else g++ or clang++ on the path."""
    names = filter(None, (os.environ.get("CXX"), "g++", "clang++"))
    return next((found for name in names if (found := shutil.which(name))), None)


def library(compiler: str) -> Path:
    """The compiled device. Raises RuntimeError where it cannot be compiled."""
    spec = importlib.util.find_spec("torch")  # without importing it: the library is to be loaded first
    assert spec is not None
    torch = Path(str(spec.origin)).parent
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    parts = [SOURCE.read_bytes(), (torch / "version.py").read_bytes(), version, str(torch).encode()]
    path = compiled_code() / "pretended_cuda" / f"{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}.so"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    places = [f"-I{torch / 'include'}", f"-I{torch / 'include/torch/csrc/api/include'}", f"-L{torch / 'lib'}"]
    flags = ["-O1", "-std=c++20", "-shared", "-fPIC", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{torch / 'lib'}"]
    answer = subprocess.run(
        [compiler, str(SOURCE), "-o", str(new), *places, *flags], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise RuntimeError(f"{compiler} cannot compile {SOURCE.name}:\n{answer.stderr[-4000:]}")
    new.replace(path)
    return path


def load(path: Path) -> None:
    """Have torch take the device for a GPU with 80 GiB, bf16 and its own random numbers; before torch is imported."""
    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    import torch

    ops = torch.ops.pretended_cuda

    def nothing() -> Callable[..., None]:  # a new one for each: torch.compile tells functions apart by identity
        return lambda *_arguments, **_more: None

    def seed(value: int) -> None:
        ops.seed(value)

    def set_states(states: Iterable[torch.Tensor]) -> None:
        for state in states:
            ops.set_random_state(state)

    about = SimpleNamespace(name="pretended", major=8, minor=0, total_memory=80 << 30, multi_processor_count=1)
    functions: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: about.name,
        "get_device_capability": lambda *_: (about.major, about.minor),
        "get_device_properties": lambda *_: about,
        "mem_get_info": lambda *_: (ops.memory()[2] - ops.memory()[0], ops.memory()[2]),
        "memory_allocated": lambda *_: ops.memory()[0],
        "max_memory_allocated": lambda *_: ops.memory()[1],
        "reset_peak_memory_stats": lambda *_: ops.reset_peak(),
        "get_rng_state": lambda *_: ops.random_state(),
        "set_rng_state": lambda state, *_: ops.set_random_state(state),
        "get_rng_state_all": lambda: [ops.random_state()],
        "set_rng_state_all": set_states,
        "manual_seed": seed,
        "manual_seed_all": lambda value: seed(int(value)),
        "_exchange_device": lambda _: 0,
        "_maybe_exchange_device": lambda _: 0,
        **{name: nothing() for name in ("init", "_lazy_init", "set_device", "synchronize", "empty_cache")},
    }
    for name, function in functions.items():
        setattr(torch.cuda, name, function)


def allow(packages: Iterable[str]) -> None:
    """Have every other import by a module of the harness fail."""
    wanted, seen = list(packages), set()
    while wanted:
        name = re.split(r"[^\w.-]", wanted.pop(), maxsplit=1)[0].lower().replace("_", "-")
        if name not in seen:
            seen.add(name)
            with contextlib.suppress(PackageNotFoundError):  # of another platform
                wanted += [need for need in requires(name) or [] if "extra ==" not in need]
    homes = packages_distributions()
    there = builtins.__import__

    def guarded(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        top, by = name.partition(".")[0], str((globals or {}).get("__name__", ""))
        of = {home.lower().replace("_", "-") for home in homes.get(top, ())}
        foreign = not level and top not in (*sys.stdlib_module_names, "harness")
        if foreign and by.partition(".")[0] == "harness" and not of & seen:
            raise ImportError(f"{by} imports {name}, which a container need not have")
        return there(name, globals, locals, fromlist, level)

    builtins.__import__ = guarded
    with contextlib.suppress(ImportError):
        exec("import pytest", {"__name__": "harness.guarded"})  # as a module of the harness would
        raise AssertionError("an import that was to be refused went through")


if __name__ == "__main__":
    found = compiler()
    if found is None:
        sys.exit(NO_COMPILER)
    load(library(found))
    sys.path.pop(0)  # this folder
    if sys.argv[1] == "--only":
        allow(sys.argv[2].split(","))
        del sys.argv[1:3]
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
