"""`python tests/support/pretended_cuda/plant.py [PART]`: plant slips, one at a time, and see which the checks catch.

A slip is a `.to(device)`, a `device=` or a `.cpu()` that is taken out of the code which runs on a GPU, in a copy of the
repository. Prints a table; PART limits it to files whose path holds that.
"""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
CHECKS = ("check_training.py", "check_running.py")


class Slip(NamedTuple):
    """What is taken out of a file: its line, the text of it, and the file without it."""

    path: Path
    line: int
    out: str
    source: str


def slips(path: Path) -> Iterator[Slip]:
    """Every slip that can be planted in a file."""
    source = path.read_text()
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    raw = source.encode()

    def without(line: int, begin: int, end: int) -> Slip:
        return Slip(path.relative_to(ROOT), line, raw[begin:end].decode(), (raw[:begin] + raw[end:]).decode())

    def at(line: int | None, column: int | None) -> int:
        return starts[(line or 1) - 1] + (column or 0)

    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        end = at(node.end_lineno, node.end_col_offset)
        if isinstance(node.func, ast.Attribute):
            receiver = at(node.func.value.end_lineno, node.func.value.end_col_offset)
            moved = node.func.attr == "to" and node.args and "device" in ast.unparse(node.args[0])
            if moved or (node.func.attr == "cpu" and not node.args):
                begin = raw.index(b".", receiver)  # a receiver's own brackets end before it
                yield without(node.lineno, begin, end)
        for keyword in node.keywords:
            if keyword.arg == "device" and node.args:
                begin = raw.rindex(b",", 0, at(keyword.lineno, keyword.col_offset))
                yield without(keyword.lineno, begin, at(keyword.value.end_lineno, keyword.value.end_col_offset))


def caught(copy: Path, slip: Slip) -> str:
    """The first test that fails; empty where none does."""
    for checks in CHECKS[:: -1 if slip.path.parts[0] == "retrievers" else 1]:
        answer = subprocess.run(
            [
                *(sys.executable, "tests/support/pretended_cuda/pretend.py", "-m", "pytest", "-n", "0", "-x", "-q"),
                *("-p", "no:cacheprovider", f"tests/device/{checks}"),
            ],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            failed = [line for line in answer.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
            return failed[0].split(" ")[1].split("::")[1] if failed else f"{checks}: exit status {answer.returncode}"
    return ""


def main(part: str = "") -> None:
    """Plant, look, put back."""
    folders = ("models", "retrievers", "harness/training", "harness/runtime")
    files = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if part in str(path))
    planted = [slip for path in files for slip in slips(path)]
    found = 0
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "copy"
        shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", ".venv", ".tox", "*.pyc"))
        print("| place | taken out | caught by | seconds |\n| --- | --- | --- | --- |")
        for slip in planted:
            began = time.monotonic()
            there = copy / slip.path
            before = there.read_text()
            there.write_text(slip.source)
            by = caught(copy, slip)
            there.write_text(before)
            found += bool(by)
            seconds = round(time.monotonic() - began)
            print(f"| {slip.path}:{slip.line} | `{slip.out}` | {by or 'nothing'} | {seconds} |", flush=True)
    print(f"\n{found} of {len(planted)} caught")


if __name__ == "__main__":
    main(*sys.argv[1:])
