"""The command line in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import harness
from tests.support.paths import ROOT


def run_process(*words: object, env: Mapping[str, str] | None = None, **kwargs) -> subprocess.CompletedProcess[str]:
    """Call `python -m harness` in a process of its own; of this checkout, where that is what is tested."""
    return _run(["-m", "harness", *words], env, **kwargs)


def run_pretended(*words: object, env: Mapping[str, str] | None = None, **kwargs) -> subprocess.CompletedProcess[str]:
    """Call `python` with `words` (-m MODULE …) where torch has a pretended GPU (tests/support/pretended_cuda)."""
    return _run([ROOT / "tests/support/pretended_cuda/pretend.py", *words], env, **kwargs)


def _run(words: Sequence[object], env: Mapping[str, str] | None, **kwargs) -> subprocess.CompletedProcess[str]:
    env = dict(env or {})
    if Path(harness.__file__).parent in (ROOT / "harness", ROOT / "editable" / "harness"):  # it may not be installed
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(ROOT)]))
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        timeout=300,
        check=False,
        **kwargs,
    )
