"""Loops that another process compiles: what is compiled is what a search calls, once, and nobody depends on it."""

import sys

import numpy as np
import pytest

from harness.retrievers import compile_ahead
from harness.retrievers.encoding import store
from harness.retrievers.encoding.vectors import HybridVectors
from harness.retrievers.search import exact, kernels, loops, warm
from harness.retrievers.search.final import Part
from tests.support.vectors import random_queries, random_vectors

MODULE = """
from numba import njit


@njit(cache=True)
def double(x):
    return 2 * x


def first_kernel():
    return double


def compile_all(*words):
    assert words == ("one", "two")
    double(1)
"""


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A module whose loops were never compiled, and nothing started in this process."""
    (tmp_path / "fresh_loops.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(compile_ahead, "_running", {})
    yield "fresh_loops"
    sys.modules.pop("fresh_loops", None)


@pytest.mark.process
def test_another_process_compiles_once(fresh):
    compile_ahead.start(fresh, "one", "two")
    assert compile_ahead.running(fresh)
    compile_ahead.start(fresh, "one", "two")  # is running
    assert len(compile_ahead._running) == 1
    compile_ahead.wait(fresh)
    assert not compile_ahead.running(fresh)
    assert compile_ahead._marker(fresh, "one", "two").exists()
    compile_ahead._running.clear()
    compile_ahead.start(fresh, "one", "two")  # is done
    assert compile_ahead._running == {(fresh, "one", "two"): None}
    double = sys.modules[fresh].double
    assert double(4) == 8
    assert sum(double.stats.cache_hits.values()) == 1


def test_other_sources_are_compiled_anew(fresh, tmp_path):
    before = compile_ahead._marker(fresh)
    assert before != compile_ahead._marker(fresh, "other words")
    (tmp_path / "fresh_loops.py").write_text(MODULE + "\n")
    assert compile_ahead._marker(fresh) != before


@pytest.mark.process
def test_a_process_that_fails_is_waited_for_and_forgotten(fresh):
    compile_ahead.start(fresh, "not what it wants")
    compile_ahead.wait(fresh)
    assert not compile_ahead._marker(fresh, "not what it wants").exists()


def test_a_quick_look_tells_whether_anything_was_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert not compile_ahead.ever("metrics")
    (tmp_path / "metrics_0123").mkdir()
    (tmp_path / "metrics_0123" / "harness-0.compiled").touch()
    assert compile_ahead.ever("metrics")
    assert not compile_ahead.ever("search")


@pytest.mark.parametrize("halves", [("dense", "lexical"), ("dense",), ("lexical",)])
def test_a_search_calls_nothing_that_was_not_compiled(tmp_path, halves):
    """Every compiled function has the signatures after a search of mapped shards that it had before."""
    warm.compile_all(*halves)
    compiled = {f for module in (loops, kernels) for f in vars(module).values() if hasattr(f, "signatures")}
    before = {f: list(f.signatures) for f in compiled}
    assert sum(map(len, before.values())) > 4
    rng = np.random.default_rng(3)
    n, width, terms = 700, 24 * ("dense" in halves), 12 * ("lexical" in halves)
    vectors = random_vectors(rng, n, width, terms, 90)
    header = store.Header("", "", {}, "", {}, "", n, 300)
    for number in range(header.shards):
        low, high = header.span(number)
        names = [f"document-{row}" for row in range(low, high)]
        store.write(tmp_path, header, number, vectors.take(slice(low, high)), names)
    shards = {header.span(n)[0]: store.read(tmp_path, header, n, HybridVectors) for n in range(header.shards)}
    parts, names = [Part(first, shard.vectors) for first, shard in shards.items()], store.Ids(shards)
    path = exact.path_for(parts, exact.torch.device("cpu"), 2, "compiled")
    exact.search(random_queries(rng, 70, width, terms, 90), parts, 10, path, names, 2)
    assert {f: list(f.signatures) for f in compiled} == before


def test_few_documents_are_searched_without_the_loops():
    cpu = exact.torch.device("cpu")
    assert exact.engine_for("auto", cpu, exact.SMALL) == "torch"
    assert exact.engine_for("auto", cpu, exact.SMALL + 1) == "compiled"
    assert exact.engine_for("compiled", cpu, 1) == "compiled"
    assert exact.engine_for("auto", exact.torch.device("cuda"), 10**6) == "torch"
