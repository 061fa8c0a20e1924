"""A checkpoint that was exported gives our own vectors in sentence-transformers, and here."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from harness.models.checkpoints import checkpoint, layouts
from harness.models.checkpoints.export_dense import export_dense
from harness.models.checkpoints.weights import quiet
from harness.models.errors import CheckpointError
from harness.retrievers.encoding.encode import TextEncoder
from harness.retrievers.types import Document, Query
from tests.support import tiny

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["red apples grow on trees", "water", "what is a river to the sea", "zq 9", "", " ".join(["green pears"] * 30)]


def encoder(folder):
    spec = layouts.read(folder).spec().replace(lexical=0)
    return TextEncoder(checkpoint.load(folder, spec), torch.device("cpu"))


def vectors(folder):
    """Ours of queries in float32, and of passages in the fp16 that are stored."""
    made = encoder(folder)
    passages = made.documents([Document(str(n), "", text) for n, text in enumerate(TEXTS)], lambda _count: None)
    return made.queries([Query(str(n), text) for n, text in enumerate(TEXTS)]).dense, passages.dense


@pytest.mark.parametrize(
    "spec",
    [
        {"dense": 16},
        {"dense": 16, "similarity": "cosine", "pooling": "mean", "query_length": 12, "passage_length": 20},
        {"dense": 32, "lexical": 0},
        {"dense": 32, "similarity": "cosine", "query_prefix": "what is ", "passage_prefix": "river "},
        {"dense": 8, "pooling": "mean", "query_length": 16, "passage_length": 16, "query_prefix": "a "},
    ],
)
def test_sentence_transformers_gives_our_vectors(tmp_path, spec):
    """Queries and passages, also ones that are cut, each at its own length; and read back here they are the same."""
    source = tiny.save_hybrid(tmp_path / "ours", **{"lexical": 12, **spec})
    export_dense(source, tmp_path / "st")
    with quiet():
        model = SentenceTransformer(str(tmp_path / "st"), device="cpu", local_files_only=True)
    queries, passages = vectors(source)
    assert np.unique(queries.round(4), axis=0).shape[0] == len(TEXTS)
    np.testing.assert_allclose(model.encode_query(TEXTS), queries, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.encode_document(TEXTS).astype(np.float16), passages, rtol=1e-3, atol=1e-5)
    assert model.similarity_fn_name == spec.get("similarity", "dot")
    assert model.max_seq_length == spec.get("passage_length", 144)
    again, stored = vectors(tmp_path / "st")
    np.testing.assert_allclose(again, queries, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(stored, passages, rtol=1e-3, atol=1e-5)


def test_what_is_in_the_folder(tmp_path):
    """No masked-LM head, no lexical half; a card that says so."""
    source = tiny.save_hybrid(tmp_path / "ours", similarity="cosine", trained={"stage": "distil"})
    export_dense(source, tmp_path / "new" / "st")
    folder = tmp_path / "new" / "st"
    chain = [row["path"] for row in json.loads((folder / "modules.json").read_text())]
    assert chain == ["", "1_Pooling", "2_Dense", "3_Normalize"]
    assert "cls." not in "".join(layouts.names_in(folder))
    assert json.loads((folder / "2_Dense" / "config.json").read_text())["bias"] is False
    card = (folder / "README.md").read_text()
    assert "lexical half (K = 12) is not in it" in card
    assert "'stage': 'distil'" in card
    assert [path.name for path in folder.parent.iterdir()] == ["st"]


def test_bad_input(tmp_path):
    lexical = tiny.save_hybrid(tmp_path / "lexical", dense=0)
    with pytest.raises(CheckpointError, match=r"no dense half \(dense 0, lexical 12\).*log\(1 \+ ReLU"):
        export_dense(lexical, tmp_path / "st")
    source = tiny.save_hybrid(tmp_path / "ours")
    (tmp_path / "there").mkdir()
    with pytest.raises(CheckpointError, match="there is there already"):
        export_dense(source, tmp_path / "there")
    export_dense(source, tmp_path / "st")
    with pytest.raises(CheckpointError, match="is a sentence-transformers folder already"):
        export_dense(tmp_path / "st", tmp_path / "again")
    (source / "hybrid.json").unlink()
    with pytest.raises(CheckpointError, match="is a plain checkpoint: it has no hybrid"):
        export_dense(source, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_nothing_half_written(tmp_path, monkeypatch):
    source = tiny.save_hybrid(tmp_path / "ours")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.models.checkpoints.export_dense._dense", full)
    with pytest.raises(OSError, match="No space"):
        export_dense(source, tmp_path / "st")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_the_command(tmp_path, cli, bad):
    source = tiny.save_hybrid(tmp_path / "ours")
    answer = cli("export", source, "st")
    assert (answer.code, answer.out) == (0, "wrote st\n")
    assert "lexical half (K = 12) is not exported" in answer.err
    assert "there already" in bad("export", source, "st")
    assert "no config.json" in bad("export", tmp_path, "other")
