"""Which benchmarks there are, what each can be asked for, and the file that keeps what they found."""

import importlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness.bench.options import BenchOptions
from harness.bench.timing import Say
from harness.retrievers.errors import InputError, unknown
from harness.runtime.environment import git_commit, hardware, now, packages

_PACKAGES = ("faiss-cpu", "numba", "scipy", "sentence-transformers", "torch", "transformers")


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark is, as `module.name(options, say) -> {entry: values}`, and the options that it reads."""

    module: str
    uses: frozenset[str]
    needs: frozenset[str] = field(default=frozenset())
    partial: bool = False  # takes a third argument, which keeps the entries that there are until now


BENCHMARKS = {
    "search": Benchmark(
        "harness.bench.search", frozenset({"model", "dataset", "docs", "queries", "k", "threads", "rounds"})
    ),
    "encode": Benchmark(
        "harness.bench.encode",
        frozenset({"model", "dataset", "passages", "lexical", "max_length", "threads", "rounds"}),
        frozenset({"model"}),
    ),
    "collate": Benchmark("harness.bench.collate", frozenset({"batch", "length", "threads", "rounds"})),
    "score": Benchmark("harness.bench.score", frozenset({"queries", "k", "threads", "rounds"})),
    "gpu": Benchmark("harness.bench.gpu", frozenset({"minutes", "tiny"}), partial=True),
}


def bench(names: Sequence[str], options: BenchOptions, output: Path | None, say: Say) -> dict[str, Any]:
    """Run the named benchmarks in turn and return {benchmark: {entry: values}, "machine": …}.

    Each entry, but for those of `gpu`, has `peer`, `unit`, `ours`, `theirs` and `ratio` (ours over the peer's; min,
    median and max of the rounds), and what else was measured. `output` is written once all of them are done (by `gpu`
    after each entry), and replaced as a whole: what stands in it was measured by one call. Raises InputError before
    anything is measured where a name is unknown, an option is used by none of them or missing, or the file cannot be
    written.
    """
    chosen = _chosen(names, options)
    if output is not None:
        _check_output(output)
    # threads are each entry's own
    machine: dict[str, Any] = {key: value for key, value in hardware(options.cores).items() if key != "threads"}
    machine |= {"packages": packages(_PACKAGES), "git_commit": git_commit(), "created": now()}
    found: dict[str, Any] = {}

    def keep(name: str, entries: dict[str, Any]) -> None:
        if output is not None:
            write(output, found | {name: entries, "machine": machine})

    for number, name in enumerate(chosen):
        if number:
            say("")
        measure = getattr(importlib.import_module(BENCHMARKS[name].module), name)
        more = [partial(keep, name)] if BENCHMARKS[name].partial else []
        found[name] = measure(options, say, *more)
    found["machine"] = machine | {"created": now()}
    if output is not None:
        write(output, found)
        say(f"wrote {output}")
    return found


def _chosen(names: Sequence[str], options: BenchOptions) -> list[str]:
    chosen = list(dict.fromkeys(names))
    if not chosen:
        raise InputError(f"no benchmark named. Give one or several of: {', '.join(BENCHMARKS)}.")
    for name in chosen:
        if name not in BENCHMARKS:
            raise unknown("benchmark", name, BENCHMARKS)
    given = options.given()
    used = frozenset().union(*(BENCHMARKS[name].uses for name in chosen))
    if extra := [option for option in given if option not in used]:
        takers = [f"{_flag(option)} belongs to {', '.join(_users(option))}" for option in extra]
        raise InputError(
            f"{', '.join(map(_flag, extra))}: not used by {' or '.join(chosen)}. {'; '.join(takers)}. "
            f"There is: {', '.join(sorted(map(_flag, used)))}."
        )
    for name in chosen:
        if missing := sorted(BENCHMARKS[name].needs - set(given)):
            raise InputError(f"{name} needs {', '.join(map(_flag, missing))}. Give it too.")
    if (options.threads or 1) > (cores := os.cpu_count() or 1):
        raise InputError(f"--threads is {options.threads}; this machine has {cores} cores. Give 1 to {cores}.")
    return chosen


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _users(option: str) -> list[str]:
    return [name for name, benchmark in BENCHMARKS.items() if option in benchmark.uses]


def _check_output(output: Path) -> None:
    if output.is_dir() or not output.parent.is_dir():
        raise InputError(f"--json {output} cannot be written: name a file in a folder that is there.")
    if not os.access(output.parent, os.W_OK):
        raise InputError(f"--json {output} cannot be written: {output.parent} gives no permission.")


def write(output: Path, found: dict[str, Any]) -> None:
    """Write to a temporary name and rename, so that the file is the old one or the new one and never half."""
    with tempfile.NamedTemporaryFile("w", dir=output.parent, prefix=f".{output.name}.", delete=False) as file:
        try:
            json.dump(found, file, indent=1)
            file.write("\n")
        except BaseException:
            Path(file.name).unlink()
            raise
    Path(file.name).chmod(0o644)  # a temporary file is its owner's alone
    Path(file.name).replace(output)
