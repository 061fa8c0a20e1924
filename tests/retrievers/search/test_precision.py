"""TF32 allowed elsewhere in the process loses no document: imitated, as a GPU's tensor cores round the factors."""

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from harness.retrievers.encoding.token_vectors import TokenQueries, TokenVectors
from harness.retrievers.search import device, maxsim
from harness.retrievers.search.device import TorchCandidates, Widened
from harness.retrievers.search.final import Part
from harness.retrievers.search.maxsim import MaxSim, TokenPart
from harness.retrievers.search.precision import ieee_products
from tests.support.vectors import oracle, random_queries, random_vectors

CPU = torch.device("cpu")
K = 1000
SETTINGS = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul


class Tf32(TorchFunctionMode):
    """Products of factors that keep 10 bits after the point, unless they are forbidden."""

    products = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.Tensor.matmul, torch.Tensor.__matmul__, torch.matmul) and args[0].layout == torch.strided:
            self.products += 1
            if SETTINGS[0].fp32_precision != "ieee":
                args = tuple(rounded(arg) for arg in args)
        return func(*args, **(kwargs or {}))


def rounded(values):
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.fixture(params=["high", "medium"])
def allowed(request):
    """As a container's override or a user's call allows them."""
    torch.set_float32_matmul_precision(request.param)
    try:
        yield [one.fp32_precision for one in SETTINGS]
    finally:
        torch.set_float32_matmul_precision("highest")
        for one in SETTINGS:
            one.fp32_precision = "none"


def single(rng):
    """The search of vectors, and what must be in its answers: of each query the K best."""
    vectors, queries = random_vectors(rng, 12_000, 64, 0, 1), random_queries(rng, 24, 64, 0, 1)
    wanted = [{*np.argsort(-oracle(queries, number, vectors)[0], kind="stable")[:K]} for number in range(24)]
    parts = [Part(0, vectors)]
    return Widened(parts, TorchCandidates(parts, CPU)), queries, wanted


def late(rng):
    """The search of token vectors, two to a document and a query."""
    tokens = [rng.standard_normal((2 * n, 64)) for n in (6_000, 12)]
    documents, asked = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in tokens)
    vectors = TokenVectors(documents.astype(np.float16), np.arange(0, 12_001, 2).astype(np.uint64))
    queries = TokenQueries(asked.astype(np.float32), np.arange(0, 25, 2).astype(np.int64))
    products = vectors.tokens.astype(float) @ queries.tokens.astype(float).T
    scores = products.reshape(6_000, 2, 12, 2).max(axis=1).sum(axis=2)
    wanted = [{*np.argsort(-scores[:, number], kind="stable")[:K]} for number in range(12)]
    return MaxSim([TokenPart(0, vectors)], CPU, 1, compiled=False), queries, wanted


def lost(make):
    search, queries, wanted = make(np.random.default_rng(5))
    with Tf32() as mode:
        found = search(queries, K)
    assert mode.products
    return sum(bool(best - {*rows}) for best, rows in zip(wanted, found, strict=True) if rows is not None)


@pytest.mark.parametrize("make", [single, late])
def test_no_document_is_lost(allowed, make, monkeypatch):
    """Without the guard some queries lose one, so that the imitation means something."""
    assert lost(make) == 0
    assert [one.fp32_precision for one in SETTINGS] == allowed
    for module in (device, maxsim):
        monkeypatch.setattr(module, "ieee_products", torch.no_grad)
    assert lost(make) > 0


def test_settings_come_back_after_an_error(allowed):
    def fails():
        with ieee_products():
            assert [one.fp32_precision for one in SETTINGS] == ["ieee", "ieee"]
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fails()
    assert [one.fp32_precision for one in SETTINGS] == allowed
