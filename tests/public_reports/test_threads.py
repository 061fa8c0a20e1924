"""Several calls of the library at once, as a notebook or a service makes them."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import harness

os.chdir(sys.argv[1])
WHAT = [("bm25", {}), ("bm25", {"k1": 1.2}), ("coordination", {}), ("retromae-mini", {}), ("bm25", {}), ("bm25", {})]

def one(number):
    name, options = WHAT[number]
    return harness.run(name, sys.argv[2], metrics=["NDCG@10", "R@2", "MRR@10"], **options)

def again(number):
    run = {"q1": {"d1": 2.0 + number}, "q2": {"d3": 1.0}}
    return harness.score(run, sys.argv[2], name=f"n{number}").metrics["MRR@10"]

with ThreadPoolExecutor(6) as pool:
    found = list(pool.map(one, range(6)))
    print(len({run.folder for run in found}), *(f"{found[0].metrics[m]:.4f}" for m in ("NDCG@10", "R@2", "MRR@10")))
    print(set(pool.map(again, range(12))))
"""


@pytest.mark.process
def test_six_runs_at_once(beir, tmp_path):
    """numba's workqueue aborted the interpreter; surveys and titles of two threads went through one temporary file."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(beir())], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["4 0.8801 0.7500 1.0000", "{1.0}"]
