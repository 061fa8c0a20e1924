"""All that runs on a GPU runs on a pretended one, which refuses what a real one refuses."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.support.commands import run_pretended
from tests.support.paths import ROOT

pytestmark = pytest.mark.process


@pytest.fixture
def _compiler():
    if torch.version.cuda or torch.version.hip:
        pytest.skip("the pretended GPU takes the place that torch's CPU build leaves free, and this torch is a GPU's")
    if not any(map(shutil.which, ("g++", "clang++"))):
        pytest.skip("the pretended GPU needs a C++ compiler (g++ or clang++), and there is none")


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("checks", [["training"], ["running", "commands", "bench"]], ids=" ".join)
def test_on_a_pretended_gpu(checks, tmp_path):
    """A pytest of its own, since torch must find the device when it is imported."""
    settings = ["-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "--import-mode=importlib", "-p", "no:cacheprovider"]
    files = [Path(__file__).with_name(f"check_{name}.py") for name in checks]
    answer = run_pretended("-m", "pytest", "-n", 0, "-q", "--basetemp", tmp_path / "checks", *settings, *files)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.usefixtures("_compiler")
def test_the_gpu_is_measured_in_any_container_that_trains(tmp_path):
    """Where our code may import nothing but these six packages and what they need."""
    only = "torch,transformers,accelerate,safetensors,numpy,typer"
    answer = run_pretended("--only", only, "-m", "harness", "bench", "gpu", "--tiny", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    left_out = [line for line in answer.stdout.splitlines() if "left out" in line]
    assert len(left_out) == 2, answer.stdout
    assert all("torch.compile " in line for line in left_out)
