"""Vectors that 16 bits cannot hold: too large was an error, too small was 0 in silence."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.retrievers.encoding.encode import halves
from harness.retrievers.errors import InputError
from tests.support import tiny


def scaled(folder, factor, names):
    path = folder / "model.safetensors"
    weights = load_file(path)
    for name in names(weights):
        weights[name] = weights[name] * factor
    save_file(weights, path, {"format": "pt"})
    return folder


def last_norm(weights):
    """The LayerNorm that makes the encoder's output."""
    last = max(name for name in weights if ".output.LayerNorm." in name and ".attention." not in name)
    return [name for name in weights if name.startswith(last.rpartition(".")[0])]


@pytest.mark.parametrize("factor", [1e-8, 3e-7])
def test_dense_values_near_0(tmp_path, bad, factor):
    folder = scaled(tiny.save_hybrid(tmp_path / "m", dense=32, lexical=0), factor, last_norm)
    message = bad("run", "-r", "dupmae", "--checkpoint", folder, "-d", "mini")
    assert "is too small for 16 bits: its greatest value is" in message
    assert "compare by cosine" in message


def test_the_same_by_cosine_is_sound(tmp_path, cli):
    folder = scaled(tiny.save_hybrid(tmp_path / "m", dense=32, lexical=0), 1e-6, last_norm)
    words = ("run", "-r", f"hf:{folder}", "--similarity", "cosine", "-d", "mini", "-m", "ndcg@10")
    assert cli(*words).code == 0


def test_term_weights_near_0(tmp_path, bad):
    folder = scaled(
        tiny.save_hybrid(tmp_path / "m", dense=0, lexical=8), 1e-9,
        lambda weights: [n for n in weights if n.startswith("cls.") or "word_embeddings" in n],
    )  # fmt: skip
    assert "no term weight of" in bad("run", "-r", "dupmae", "--checkpoint", folder, "-d", "mini")


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([1.0, 1e-9], True),  # beside a large value the small one says nothing
        ([0.0, 0.0], True),
        ([1e-4, 1e-4], True),
        ([1e-5, 1e-5], True),  # below 6.1e-05 float16 has fewer digits
        ([1e-7, 1e-7], False),
        ([1e-8, 0.0], False),
        ([float("inf"), 1.0], True),  # found when the store is written
        ([float("nan"), 1.0], True),
        ([1e6, 1.0], True),
    ],
)
def test_what_counts_as_too_small(values, kept):
    vectors = torch.tensor([[0.5, 0.5], values])
    if kept:
        assert halves(vectors, ["a", "b"]).shape == (2, 2)
    else:
        with pytest.raises(InputError, match="document 'b' is too small"):
            halves(vectors, ["a", "b"])
