"""All that runs on a GPU runs on a pretended one, which refuses what a real one refuses."""

import shutil
from pathlib import Path

import pytest

from tests.support.commands import run_pretended
from tests.support.paths import ROOT

pytestmark = pytest.mark.process


@pytest.mark.parametrize("checks", ["check_training.py", "check_running.py"])
def test_on_a_pretended_gpu(checks, tmp_path):
    """A pytest of its own, since torch must find the device when it is imported."""
    if not any(map(shutil.which, ("g++", "clang++"))):
        pytest.skip("the pretended GPU needs a C++ compiler (g++ or clang++), and there is none")
    settings = ["-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "--import-mode=importlib", "-p", "no:cacheprovider"]
    checks = Path(__file__).with_name(checks)
    answer = run_pretended("-m", "pytest", "-n", 0, "-q", "--basetemp", tmp_path / "checks", *settings, checks)
    assert answer.returncode == 0, answer.stdout + answer.stderr
