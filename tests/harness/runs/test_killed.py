"""kill -9 in every phase: what is left is whole, and the rerun gives the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.support.commands import run_process
from tests.support.datasets import write_beir

pytestmark = pytest.mark.process

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdgklmnprst"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Large enough that indexing lasts half a second and searching one."""
    draw = random.Random(3)
    docs = [(f"d{n}", " ".join(draw.choices(WORDS, k=3)), " ".join(draw.choices(WORDS, k=80))) for n in range(6000)]
    queries = [(f"q{n}", " ".join(draw.choices(WORDS, k=6))) for n in range(120)]
    qrels = {"test": [(f"q{n}", f"d{n}", 1) for n in range(120)]}
    return write_beir(tmp_path_factory.mktemp("kill") / "large", docs=docs, queries=queries, qrels=qrels)


@pytest.fixture(scope="module")
def expected(folder, tmp_path_factory):
    """The bytes of a run that nothing disturbed."""
    place = tmp_path_factory.mktemp("whole")
    done = run_process("run", "-r", "bm25", "-d", folder, cwd=place, env={"HARNESS_HOME": str(place / "home")})
    assert done.returncode == 0, done.stderr
    return _run_file(place).read_bytes()


def _run_file(place):
    [path] = place.glob("results/*/*/*/run.trec.gz")
    return path


@pytest.mark.parametrize(
    ("phase", "begun", "delay"),
    [
        ("export", "home/cache/bm25/*.building/texts/*", 0.0),
        ("index", "home/cache/bm25/*.building/lucene/*", 0.1),
        ("search", "home/cache/bm25/flat-*/index.json", 0.3),
    ],
)
def test_a_killed_run_is_made_anew_to_the_byte(folder, expected, tmp_path, phase, begun, delay):
    env = {**os.environ, "HARNESS_HOME": str(tmp_path / "home")}
    words = [sys.executable, "-m", "harness", "run", "-r", "bm25", "-d", str(folder)]
    with subprocess.Popen(words, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while not list(tmp_path.glob(begun)):
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        time.sleep(delay)
        assert process.poll() is None, f"over before it could be killed in phase {phase}"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not list(tmp_path.glob("results/*/*/*"))
    again = run_process("run", "-r", "bm25", "-d", folder, cwd=tmp_path, env=env)
    assert again.returncode == 0, again.stderr
    assert _run_file(tmp_path).read_bytes() == expected
    assert not list(tmp_path.glob("home/cache/bm25/*.building"))


def test_two_processes_at_once_leave_one_whole_run(folder, expected, tmp_path):
    """Both want the same index and the same run: one writes it, the other says so or finds it."""
    env = {**os.environ, "HARNESS_HOME": str(tmp_path / "home")}
    words = [sys.executable, "-m", "harness", "run", "-r", "bm25", "-d", str(folder)]
    both = [subprocess.Popen(words, cwd=tmp_path, env=env, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    answers = [(process, *process.communicate(timeout=300)) for process in both]
    assert sorted(process.returncode for process, _, _ in answers) in ([0, 0], [0, 2])
    for process, out, err in answers:
        assert "Traceback" not in err
        assert ("another process is writing" in err) if process.returncode else ("results/" in out)
    assert _run_file(tmp_path).read_bytes() == expected
