"""Which device is taken, and what is said of a GPU that is not there, full or lost."""

import warnings

import numpy as np
import pytest
import torch

from harness.retrievers import devices
from harness.retrievers.errors import InputError
from harness.retrievers.search import device, exact
from harness.retrievers.search.final import Part
from tests.support.vectors import random_queries, random_vectors


@pytest.fixture
def gpus(monkeypatch):
    """Have torch be built for CUDA, see a GPU or none, and say something of it."""

    def make(there, said="", visible=None):
        def is_available():
            if said:
                warnings.warn(said, UserWarning, stacklevel=1)
            return there

        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", is_available)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return make


@pytest.mark.parametrize(
    ("wanted", "there", "found"),
    [
        ("auto", True, "cuda"),
        ("cuda", True, "cuda"),
        ("cpu", True, "cpu"),
        ("auto", False, "cpu"),
        ("cpu", False, "cpu"),
    ],
)
def test_what_a_choice_comes_to(gpus, wanted, there, found):
    gpus(there)
    assert devices.chosen(wanted, "--device").type == found


@pytest.mark.parametrize(
    ("said", "visible", "part"),
    [
        ("", None, "no GPU is visible to torch. Use"),
        ("", "", "CUDA_VISIBLE_DEVICES is '', which names no device"),
        ("", "7", "CUDA_VISIBLE_DEVICES is '7', which names no device"),
        ("", "MIG-1f2a", "CUDA_VISIBLE_DEVICES is 'MIG-1f2a', which names no device"),
        ("CUDA initialization: The NVIDIA driver on your system is too old\n(found 11.0)", "7", "too old (found 11.0)"),
    ],
)
def test_why_no_gpu_is_visible(gpus, said, visible, part):
    gpus(False, said, visible)
    with pytest.raises(InputError) as caught:
        devices.chosen("cuda", "--device cuda")
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_torch_for_the_cpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="this torch is built for the CPU"):
        devices.chosen("cuda", "--device cuda")


# as torch says them
LOST = [
    "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported",
    "CUDA error: unspecified launch failure",
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "No CUDA GPUs are available",
    "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
    "NCCL Error 1: unhandled cuda error",
]


@pytest.mark.parametrize("text", LOST)
def test_a_gpu_that_is_lost_is_one_line(text):
    found = devices.failure(RuntimeError(text))
    assert found.startswith(f"the GPU failed: {text.split(chr(10), maxsplit=1)[0]}")
    assert "\n" not in found


def test_a_gpu_that_is_full_is_one_line():
    found = devices.failure(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has"))
    assert found.startswith("the GPU has no memory left")
    assert "--device cpu" in found


@pytest.mark.parametrize("error", [ValueError("CUDA error: no"), RuntimeError("mat1 and mat2 shapes"), KeyError("x")])
def test_other_errors_are_faults_of_ours(error):
    assert devices.failure(error) is None


@pytest.mark.parametrize("error", [RuntimeError(LOST[1]), torch.OutOfMemoryError("CUDA out of memory")])
def test_the_command_ends_with_one_line(cli, monkeypatch, error):
    def fail(*_arguments):
        raise error

    monkeypatch.setattr("harness.retrievers.lexical.bm25.BM25.search", fail)
    answer = cli("run", "-r", "bm25", "-d", "mini", "-k", "100")
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("error: the GPU ")


@pytest.mark.parametrize("way", ["torch", "faiss"])
def test_forced_tf32_is_refused_on_a_gpu_alone(monkeypatch, way):
    parts = [Part(0, random_vectors(np.random.default_rng(0), 5, 4, 0, 10))]
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setattr("faiss.StandardGpuResources", lambda: None, raising=False)
    exact.path_for(parts, torch.device("cpu"), 1, way)
    with pytest.raises(InputError, match="NVIDIA_TF32_OVERRIDE=1 rounds"):
        exact.path_for(parts, torch.device("cuda"), 1, way)


def test_faiss_searches_on_the_gpu_where_it_is_built_for_it(monkeypatch):
    """A Faiss that keeps what is asked of its GPU index, which selects 2,048 results at most."""
    import faiss

    rng, asked = np.random.default_rng(1), []

    class OnGpu:
        def __init__(self, index):
            self.index = index

        def search(self, queries, count):
            asked.append(count)
            assert count <= 2_048, "more than Faiss selects on a GPU"
            return self.index.search(queries, count)

    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: "resources", raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda _resources, _number, index: OnGpu(index), raising=False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    parts, queries = [Part(0, random_vectors(rng, 3_000, 8, 0, 10))], random_queries(rng, 4, 8, 0, 10)
    found = device.faiss_candidates(parts, 1, torch.device("cuda"))
    here = device.faiss_candidates(parts, 1, torch.device("cpu"))
    for count in (10, 2_048, 2_500):
        for ours, theirs in zip(found(queries, count), here(queries, count), strict=True):
            assert (ours == theirs).all()
    assert asked == [10, 2_048]
