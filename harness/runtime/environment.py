"""What a record says of the machine and the software: time, hardware, package versions, git commit."""

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.version import __version__

_PACKAGES = ("ir_datasets", "numpy", "pytrec-eval-terrier", "ranx")


def now() -> str:
    """The time, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def hardware(threads: int) -> dict[str, str | int]:
    """What a run ran on."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "threads": threads,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def packages(names: Sequence[str]) -> dict[str, str]:
    """Versions of the named packages and of those that every record names."""
    found = {"python": sys.version.split()[0], "dupmae-harness": __version__}
    for name in sorted({*_PACKAGES, *names}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


@lru_cache(maxsize=1)
def git_commit() -> str | None:
    """The commit of the harness's own checkout, `-dirty` where it was changed; None for an installed package.

    Call it once before a Java virtual machine starts: it forks.
    """
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
