"""A call of the library leaves the caller's process as it was, and works alone inside other people's jobs."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from harness.retrievers.errors import InputError
from tests.support import tiny
from tests.support.paths import ROOT


def state():
    """What other code in this process relies on."""
    import numba

    return {
        "torch threads": torch.get_num_threads(),
        "torch threads between operations": torch.get_num_interop_threads(),
        "torch": torch.get_rng_state().tolist(),
        "torch dtype": torch.get_default_dtype(),
        "torch gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "numba threads": numba.get_num_threads(),
        "numba cache": numba.config.CACHE_DIR,
        "numpy": [str(part) for part in np.random.get_state()],  # noqa: NPY002
        "numpy errors": np.geterr(),
        "random": random.getstate(),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
    }


@pytest.fixture
def here(beir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return str(beir())


@pytest.fixture
def unusual(monkeypatch):
    """A caller with settings of its own."""
    import numba

    numba.get_num_threads()  # the first time it starts threads, which sets torch's as well
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    torch.manual_seed(11)
    np.random.seed(12)  # noqa: NPY002
    random.seed(13)
    yield
    torch.set_num_threads(before)


CALLS = {
    "run bm25": lambda d, t: harness.run("bm25", d, threads=1, force=True),
    "run dense": lambda d, t: harness.run("retromae-mini", d, threads=1, force=True),
    "run hybrid, found": lambda d, t: [harness.run("dupmae-mini", d, threads=2) for _ in "ab"],
    "run faiss": lambda d, t: harness.run("retromae-mini", d, threads=2, engine="faiss", force=True),
    "retrieve": lambda d, t: harness.retrieve("dupmae-mini", d, {"a": "apples"}, threads=1),
    "score": lambda d, t: harness.score({"q1": {"d1": 1.0}}, d, force=True),
    "fuse": lambda d, t: harness.fuse(harness.run("bm25", d), {"q1": {"d2": 1.0}}, force=True),
    "compare": lambda d, t: harness.compare(harness.run("bm25", d), harness.run("coordination", d)),
    "read": lambda d, t: harness.read(harness.run("bm25", d).folder).per_query(),
    "export": lambda d, t: harness.export(t / "m", t / "out"),
}  # fmt: skip
WRONG = {
    "run": lambda d, t: harness.run("retromae-mini", d, threads=1, engine="odd"),
    "retrieve": lambda d, t: harness.retrieve("dupmae-mini", d, {"a": "apples"}, top_k=0),
    "score": lambda d, t: harness.score({"other": {"d1": 1.0}}, d),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_it_is_as_it_was(here, tmp_path, unusual, name):
    if name == "export":
        tiny.save_hybrid(tmp_path / "m", dense=16, lexical=8)
    before = state()
    CALLS[name](here, tmp_path)
    assert state() == before


@pytest.mark.parametrize("name", WRONG)
def test_it_is_as_it_was_after_an_error(here, tmp_path, unusual, name):
    before = state()
    with pytest.raises(InputError):
        WRONG[name](here, tmp_path)
    assert state() == before


def test_after_a_fault_in_the_middle_of_a_search(here, unusual, monkeypatch):
    def fault(*args, **kwargs):
        torch.rand(3)
        raise ZeroDivisionError

    monkeypatch.setattr("harness.retrievers.search.searcher.Searcher.run", fault)
    before = state()
    with pytest.raises(ZeroDivisionError):
        harness.run("retromae-mini", here, threads=1, force=True)
    assert state() == before


@pytest.mark.process
def test_random_numbers_where_the_call_imports_all(here, tmp_path):
    code = (
        "import random, numpy; random.seed(1); numpy.random.seed(2); import harness; {call}; "
        "print(random.random(), numpy.random.rand())"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code.format(call=call)], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for call in ("None", f"harness.run('dupmae-mini', {here!r}, threads=1)")
    ]
    assert said[0] == said[1]


PROGRAM = """
import os, sys
import harness
rank = int(os.environ["RANK"])
if rank == 0:
    print("R@2", harness.run("bm25", sys.argv[1], metrics=["R@2"], results=sys.argv[2]).metrics["R@2"])
    print("found", harness.run("bm25", sys.argv[1], metrics=["R@2"], results=sys.argv[2]).metrics["R@2"])
    print("dense", len(harness.run("retromae-mini", sys.argv[1], metrics=["R@2"], results=sys.argv[2]).metrics))
made = harness.run("retromae-mini", sys.argv[1], metrics=["R@2"], results=sys.argv[3], distributed=True)
said = None if made is None else made.metrics == harness.read(made.folder).metrics
sys.stdout.write(f"together {rank} {said}\\n")  # at one stroke, since both write into one pipe
"""


@pytest.mark.process
def test_inside_somebody_elses_torchrun(here, tmp_path):
    """Rank 0 waited for ranks that never called the harness, without a word, for up to 7 days."""
    (tmp_path / "job.py").write_text(PROGRAM)
    words = [str(tmp_path / "job.py"), here, str(tmp_path / "a"), str(tmp_path / "b")]
    ran = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    said = sorted(ran.stdout.splitlines())
    assert said == ["R@2 0.75", "dense 1", "found 0.75", "together 0 True", "together 1 None"]
