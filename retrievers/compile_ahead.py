"""Loops that numba compiles, compiled by another process while this one has something else to do.

numba keeps what it compiled in a cache, so on all but the first call of a fresh machine there is nothing to do. A
module takes part by two functions: `first_kernel` returns one of its compiled functions, and `compile_all` calls those
that its arguments (words) ask for, with arrays of the types that they will get.
"""

import hashlib
import os
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from harness.retrievers.jit import temporary
from harness.retrievers.places import compiled_code

_running: dict[tuple[str, ...], "subprocess.Popen[bytes] | None"] = {}
_lock = threading.Lock()


def start(module: str, *words: str) -> None:
    """Have the loops of `module` compiled that `words` ask for, unless they are; at most once in a process."""
    key = (module, *words)
    with _lock:
        if key in _running:
            return
        _running[key] = None
    if not _marker(*key).exists() and not temporary():
        command = [sys.executable, "-m", "harness.retrievers.compile_ahead", *key]
        quiet = subprocess.DEVNULL
        _running[key] = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)


def ever(folder: str) -> bool:
    """Whether loops in a folder of that name were compiled here before, by a quick look that does not import anything.

    False also where numba had to keep what it compiled elsewhere.
    """
    return any(compiled_code().glob(f"{folder}_*/harness-*.compiled"))


def running(module: str) -> bool:
    """Whether a process compiles loops of `module` at this moment."""
    own = [process for key, process in list(_running.items()) if key[0] == module]
    return any(process is not None and process.poll() is None for process in own)


def wait(module: str) -> None:
    """Wait for the processes that compile loops of `module`, if there are any.

    Whether they succeed does not matter: what numba's cache lacks is compiled when it is called.
    """
    for key, process in list(_running.items()):
        if key[0] == module and process is not None:
            process.wait()
            _running[key] = None


def _marker(module: str, *words: str) -> Path:
    """A file in numba's cache, there once these loops are compiled for this CPU from these sources."""
    import llvmlite.binding
    import numba

    kernel: Any = import_module(module).first_kernel()
    folder = Path(kernel.py_func.__code__.co_filename).parent
    sources = [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.glob("*.py"))]
    cpu = llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten()
    decides = repr((module, words, sys.version, numba.__version__, cpu, sources))
    return Path(kernel.stats.cache_path) / f"harness-{hashlib.sha256(decides.encode()).hexdigest()[:16]}.compiled"


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main(module: str, *words: str) -> None:
    """Compile the loops of `module` that `words` ask for; end when the process that asked has ended."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    import_module(module).compile_all(*words)
    _marker(module, *words).touch()


if __name__ == "__main__":
    main(*sys.argv[1:])
