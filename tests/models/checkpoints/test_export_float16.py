"""A checkpoint in 16 bits: half the bytes, the same vectors but for one rounding of the weights."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from harness.models import hybrid
from harness.models.checkpoints import checkpoint, layouts
from harness.models.checkpoints.export_float16 import export_float16
from harness.models.checkpoints.weights import names_in
from harness.models.errors import CheckpointError
from harness.retrievers.encoding.encode import TextEncoder
from harness.retrievers.types import Query
from tests.support import tiny

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["red apples grow on trees", "water", "what is a river to the sea", "zq 9", " ".join(["green pears"] * 30)]


def loaded(folder):
    return checkpoint.load(folder, layouts.read(folder).spec())


def vectors(folder):
    """Of queries, which stay in float32: (dense [Q,D], lexical [Q,V])."""
    made = TextEncoder(loaded(folder), torch.device("cpu")).queries([Query(t, t) for t in TEXTS])
    return made.dense, made.lexical


def tensors(folder):
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            found |= {f"{file.name} {name}": opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return found


def test_every_weight_is_the_source_rounded_once_and_stored_once(tmp_path):
    """The decoder of the masked-LM head is the embedding table, and there is no second copy of it."""
    source = tiny.save_hybrid(tmp_path / "m")
    export_float16(source, tmp_path / "new" / "h")
    before, after = tensors(source), tensors(tmp_path / "new" / "h")
    assert before.keys() == after.keys()
    assert not [name for name in after if "decoder.weight" in name]
    for name, weight in after.items():
        assert weight.dtype == torch.float16
        assert torch.equal(weight, before[name].half())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["h"]


def test_only_what_loading_needs_and_it_says_what_the_source_says(tmp_path):
    source = tiny.save_hybrid(tmp_path / "m", temperature=3.5, lexical_scale=0.25, trained={"seed": 3})
    for name in ("manifest.json", "metrics.jsonl", "curves.png", "training_state.pt"):
        (source / name).write_text("{}")
    export_float16(source, tmp_path / "h")
    assert {path.name for path in (tmp_path / "h").iterdir()} == {
        *("config.json", "model.safetensors", "cls_projection.safetensors", "hybrid.json"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    assert hybrid.read(tmp_path / "h") == hybrid.read(source)
    assert json.loads((tmp_path / "h" / "config.json").read_text())["dtype"] == "float16"
    size = [sum(path.stat().st_size for path in folder.glob("*.safetensors")) for folder in (source, tmp_path / "h")]
    assert 0.4 < size[1] / size[0] < 0.75  # headers of a model this small weigh something


def test_a_checkpoint_without_a_lexical_half_leaves_the_head_behind(tmp_path):
    export_float16(tiny.save_hybrid(tmp_path / "m", dense=32, lexical=0), tmp_path / "h")
    assert not [name for name in names_in(tmp_path / "h") if name.startswith("cls.")]
    np.testing.assert_allclose(vectors(tmp_path / "h")[0], vectors(tmp_path / "m")[0], rtol=0.02, atol=0.02)


def test_equal_checkpoints_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        export_float16(tiny.save_hybrid(tmp_path / f"{name}.stage"), tmp_path / name)
    export_float16(tmp_path / "a", tmp_path / "again")  # and what is in 16 bits already stays what it is
    first = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    for name in ("b", "again"):
        assert {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} == first


@pytest.mark.parametrize("lexical", [0, 12])
def test_on_a_cpu_it_is_computed_in_float32(tmp_path, lexical):
    """Every weight is float32, so each vector is what the rounded weights give; not what 16-bit sums would."""
    export_float16(tiny.save_hybrid(tmp_path / "m", lexical=lexical), tmp_path / "h")
    found = loaded(tmp_path / "h")
    assert {weight.dtype for weight in found.encoder.parameters()} == {torch.float32}
    assert vectors(tmp_path / "h")[0].dtype == np.float32
    # a second path: the float32 checkpoint whose weights were rounded in memory
    rounded = loaded(tmp_path / "m")
    with torch.no_grad():
        for weight in rounded.encoder.parameters():
            weight.copy_(weight.half().float())
    wanted = TextEncoder(rounded, torch.device("cpu")).queries([Query(t, t) for t in TEXTS])
    for ours, theirs in zip(vectors(tmp_path / "h"), (wanted.dense, wanted.lexical), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_vectors_differ_by_less_than_what_16_bits_of_storage_cost(tmp_path):
    """A weight is off by 2^-11 of itself at most, at random; the relative error of a vector stays of that order.

    2^-11 is 0.0005. A bound of 0.002 is four times that, for two layers whose errors add up.
    """
    export_float16(tiny.save_hybrid(tmp_path / "m"), tmp_path / "h")
    for before, after in zip(vectors(tmp_path / "m"), vectors(tmp_path / "h"), strict=True):
        error = np.linalg.norm(before - after, axis=1) / np.linalg.norm(before, axis=1)
        assert 0 < error.max() < 0.002


# --- what is refused


def with_weight(folder, value):
    source = tiny.save_hybrid(folder)
    model = loaded(source)
    with torch.no_grad():
        next(model.model.parameters())[3, 0] = value
    checkpoint.save(source, model.model, model.tokenizer, model.spec, model.encoder.projection)
    return source


def test_what_16_bits_cannot_hold_is_refused(tmp_path):
    """65,504 is float16's largest, and 65,520 the first to be rounded to infinity; we draw the line at the former."""
    export_float16(with_weight(tmp_path / "most", 65_504.0), tmp_path / "h")
    assert tensors(tmp_path / "h")["model.safetensors bert.embeddings.word_embeddings.weight"].isfinite().all()
    for number, value in enumerate((65_505.0, -1e30)):
        source = with_weight(tmp_path / f"m{number}", value)
        with pytest.raises(CheckpointError, match=r"word_embeddings.weight \([\d,]+\). It cannot be stored in 16 bits"):
            export_float16(source, tmp_path / "new")
    with pytest.raises(CheckpointError, match="not finite"):
        export_float16(with_weight(tmp_path / "nan", float("nan")), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_bad_input(tmp_path, cli, bad):
    source = tiny.save_hybrid(tmp_path / "m")
    answer = cli("export", source, "h", "--float16")
    assert (answer.code, answer.out, answer.err) == (0, "wrote h (0.1 MB)\n", "")
    assert "h is there already" in bad("export", source, "h", "--float16")
    (tmp_path / "file").write_text("")
    assert "cannot be made a folder" in bad("export", source, "file/h", "--float16")
    (source / "hybrid.json").unlink()
    assert "no hybrid.json" in bad("export", source, "other", "--float16")
    assert not (tmp_path / "other").exists()


def test_from_python(tmp_path):
    import harness

    source = tiny.save_hybrid(tmp_path / "m")
    assert harness.export(source, tmp_path / "h", float16=True) == tmp_path / "h"
    assert checkpoint.load(tmp_path / "h", layouts.read(source).spec()).spec.dense == 16
