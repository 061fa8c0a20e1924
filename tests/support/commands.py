"""The command line in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping


def run_process(*words: object, env: Mapping[str, str] | None = None, **kwargs) -> subprocess.CompletedProcess[str]:
    """Call `python -m harness` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=300,
        check=False,
        **kwargs,
    )
