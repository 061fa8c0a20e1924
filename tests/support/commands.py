"""The command line in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import harness
from tests.support.paths import ROOT


def run_process(*words: object, env: Mapping[str, str] | None = None, **kwargs) -> subprocess.CompletedProcess[str]:
    """Call `python -m harness` in a process of its own; of this checkout, where that is what is tested."""
    env = dict(env or {})
    if Path(harness.__file__).is_relative_to(ROOT):  # it may not be installed
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(ROOT)]))
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        timeout=300,
        check=False,
        **kwargs,
    )
