"""Two processes do what one does: the same losses and gradients of the same global batch."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from tests.support.paths import ROOT
from tests.support.training import TASKS, course_of

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes made of all tasks; started once, as importing torch takes longest."""
    place = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-W", "error", "-m", "tests.support.training", "course", str(place), *TASKS]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            words,
            cwd=ROOT,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], "\n".join(said)
    return place


@pytest.mark.parametrize("name", TASKS)
def test_two_processes_are_one(name, folder, tmp_path):
    one = course_of(name, tmp_path)
    first, second = (torch.load(folder / f"{name}.{rank}.pt", weights_only=True) for rank in range(2))
    for key in ("grads", "weights"):  # the processes agree to the bit
        assert first[key].keys() == second[key].keys() == one[key].keys()
        assert all(torch.equal(value, second[key][name]) for name, value in first[key].items())
    assert first["log"] == second["log"]
    assert first["extra"] == pytest.approx(one["extra"], rel=1e-5)
    norm = torch.cat([grad.flatten() for grad in one["grads"].values()]).norm()
    assert norm > 1e-3
    for weight, grad in one["grads"].items():
        torch.testing.assert_close(first["grads"][weight], grad, rtol=1e-4, atol=1e-5 * max(1.0, float(norm)))
    assert len(one["log"]) == 3
    for (tokens, ours), (expected, losses) in zip(first["log"], one["log"], strict=True):
        assert tokens == expected
        assert ours == pytest.approx(losses, rel=1e-4, abs=1e-5)
