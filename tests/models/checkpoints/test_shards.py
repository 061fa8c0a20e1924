"""Weights in several files: every reader of a checkpoint takes them as it takes one file."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForMaskedLM

from harness.models.checkpoints import checkpoint, export_float16, hub, late_layouts, layouts
from harness.models.checkpoints.late import load as load_late
from harness.models.checkpoints.weights import names_in, quiet, tensors_in, tensors_only
from harness.models.errors import CheckpointError
from harness.retrievers.encoding.encode import TextEncoder
from harness.retrievers.late_interaction.encode import TokenEncoder
from harness.retrievers.types import Document, Query
from tests.support import late, tiny

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["red apples grow on trees", "water", "what is a river to the sea"]


def sharded(folder, target, size=8_000):
    """`folder` with its weights in files of `size` bytes, written by transformers alone."""
    shutil.copytree(folder, target)
    (target / "model.safetensors").unlink()
    with quiet():
        AutoModelForMaskedLM.from_pretrained(folder).save_pretrained(target, max_shard_size=size)
    assert len([*target.glob("model-*.safetensors")]) > 2
    return target


def vectors(folder):
    loaded = checkpoint.load(folder, layouts.read(folder).spec())
    made = TextEncoder(loaded, torch.device("cpu")).queries([Query(t, t) for t in TEXTS])
    return made.dense, made.lexical


def test_shards_give_the_vectors_and_names_of_the_whole(tmp_path):
    whole = tiny.save_hybrid(tmp_path / "m")
    parts = sharded(whole, tmp_path / "s")
    for ours, theirs in zip(vectors(parts), vectors(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert names_in(parts) == names_in(whole) == tensors_in(parts).keys()
    assert all(torch.equal(tensor, tensors_in(whole)[name]) for name, tensor in tensors_in(parts).items())


def test_an_export_in_16_bits_is_cut_below_its_limit(tmp_path, monkeypatch, cli):
    whole = tiny.save_hybrid(tmp_path / "m")
    export_float16.export_float16(whole, tmp_path / "one")
    monkeypatch.setattr(export_float16, "_SHARD", 8_000)
    export_float16.export_float16(whole, tmp_path / "cut")
    files = sorted((tmp_path / "cut").glob("model-*.safetensors"))
    assert len(files) > 2
    one = tensors_in(tmp_path / "one")
    most = max(tensor.nbytes for tensor in one.values())
    assert all(sum(tensor.nbytes for tensor in tensors_only(file).values()) <= max(most, 8_000) for file in files)
    assert all(torch.equal(tensor, one[name]) for name, tensor in tensors_in(tmp_path / "cut").items())
    for ours, theirs in zip(vectors(tmp_path / "cut"), vectors(tmp_path / "one"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    export_float16.export_float16(tmp_path / "cut", tmp_path / "again")
    assert hub.content_hash(tmp_path / "again") == hub.content_hash(tmp_path / "cut")
    assert cli("export", tmp_path / "cut", tmp_path / "dense").code == 0


def test_late_interaction_reads_shards(tmp_path):
    """The projection of ColBERT's layout lies among the backbone's weights, in whichever file."""
    late.save(tmp_path / "m")
    shutil.copytree(tmp_path / "m", tmp_path / "s")
    state = [*tensors_only(tmp_path / "s" / "model.safetensors").items()]
    (tmp_path / "s" / "model.safetensors").unlink()
    files = {
        "model-00001-of-00002.safetensors": dict(state[::2]),
        "model-00002-of-00002.safetensors": dict(state[1::2]),
    }
    for name, part in files.items():
        save_file(part, tmp_path / "s" / name, {"format": "pt"})
    places = {name: file for file, part in files.items() for name in part}
    (tmp_path / "s" / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    vectors = []
    for name in ("m", "s"):
        layout = late_layouts.read(tmp_path / name)
        made = TokenEncoder(load_late(layout, layout.spec), torch.device("cpu"))
        vectors.append(made.documents([Document(text, "", text) for text in TEXTS], lambda _: None).tokens)
    np.testing.assert_array_equal(*vectors)


def test_a_broken_index_or_a_missing_shard_is_named(tmp_path):
    folder = sharded(tiny.save_hybrid(tmp_path / "m"), tmp_path / "s")
    lost = min(folder.glob("model-*.safetensors"))
    lost.rename(tmp_path / "lost")
    with pytest.raises(CheckpointError, match=rf"lacks {lost.name}, which model.safetensors.index.json names"):
        tensors_in(folder)
    with pytest.raises(CheckpointError, match=r"do not fit its config\.json, are damaged"):
        vectors(folder)
    for text in ("{", "[]", '{"weight_map": 3}', json.dumps({"weight_map": ["a"]})):
        (folder / "model.safetensors.index.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"index\.json is damaged"):
            tensors_in(folder)
        assert names_in(folder) == set()
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match="has no weights: none of"):
        tensors_in(folder)
