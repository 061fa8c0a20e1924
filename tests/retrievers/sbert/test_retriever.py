"""`st:` against sentence-transformers itself: its vectors, its similarity, and what is refused."""

import json
import re

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

from harness.models.errors import CheckpointError
from harness.retrievers.errors import InputError
from harness.retrievers.registry import get
from harness.retrievers.run_files import trec
from harness.retrievers.sbert.encode import pairs
from harness.retrievers.types import Document, Query
from tests.support import layouts, sbert
from tests.support.datasets import write_beir
from tests.support.neural import DOCS, QRELS, QUERIES, go

pytestmark = pytest.mark.usefixtures("one_thread")
PASSAGES = [Document(*row) for row in DOCS]
JOINED = [doc.joined for doc in PASSAGES]
ASKED = [text for _, text in QUERIES]
POOLINGS = ["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


@pytest.fixture
def toy(tmp_path):
    return write_beir(tmp_path / "toy", docs=DOCS, queries=QUERIES, qrels=QRELS)


def retriever(folder, **options):
    cls = get(f"st:{folder}")
    found = cls(cls.Options(device="cpu", **options))
    found.check()
    return found


def encoded(folder, **options):
    """Query vectors [Q,·], and passages as the store keeps them: `HybridVectors`."""
    encoder = retriever(folder, **options).encoder
    return (
        encoder.queries([Query(*query) for query in QUERIES]),
        encoder.documents(PASSAGES, lambda _: None),
    )


def ranked(record):
    """{query id: [(document id, score)]} of a record's run, best first."""
    run = trec.read(record.folder / "run.trec.gz")
    return {
        query_id: [(doc.decode(), score) for doc, score in zip(*map(np.ndarray.tolist, run.rows(number)), strict=True)]
        for number, query_id in enumerate(run.query_ids)
    }


def check_ranking(record, similarity):
    """The run is the order of the library's own similarities [Q,N], and its scores are they but for 16 bits."""
    for (query_id, _), row in zip(QUERIES, similarity, strict=True):
        expected = sorted(zip(row.tolist(), [doc.doc_id for doc in PASSAGES], strict=True), reverse=True)
        found = dict(record)[query_id]
        assert [doc_id for doc_id, _ in found] == [doc_id for score, doc_id in expected][: len(found)]
        np.testing.assert_allclose([s for _, s in found], [s for s, _ in expected][: len(found)], rtol=2e-3, atol=2e-3)


def check_dense(tmp_path, toy, folder, model, **options):
    """Vectors to 1e-5, those of the store but for 16 bits, and the ranking by the library's own similarity."""
    asked, kept = encoded(folder, **options)
    queries, passages = model.encode_query(ASKED), model.encode_document(JOINED)
    if model.similarity_fn_name == "cosine":
        queries, passages = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (queries, passages))
    np.testing.assert_allclose(asked.dense, queries, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(kept.dense, passages, atol=1e-5, rtol=2**-10)
    assert asked.lexical.shape[1] == kept.term_ids.shape[1] == 0
    record = go(tmp_path, toy, f"st:{folder}", device="cpu", **options)
    check_ranking(ranked(record), model.similarity(model.encode_query(ASKED), model.encode_document(JOINED)))
    return record


@pytest.mark.parametrize("mode", POOLINGS)
def test_every_pooling(tmp_path, toy, mode):
    folder, model = layouts.saved(tmp_path, lambda: Pooling(32, pooling_mode=mode), similarity_fn_name="dot")
    record = check_dense(tmp_path, toy, folder, model)
    assert (record.manifest.system.variant, record.manifest.system.bytes_per_document) == ("32 values", 64.0)


@pytest.mark.parametrize("similarity", ["dot", "cosine", None])
def test_layers_prompts_and_similarities(tmp_path, toy, similarity):
    """Two poolings side by side, a Dense layer with Tanh, Normalize; a prompt for each side; None is cosine there."""
    modules = [
        lambda: Pooling(32, pooling_mode=("mean", "max")),
        lambda: Dense(64, 8),
        *([Normalize] if similarity == "cosine" else []),
    ]
    prompts = {"query": "what is ", "document": "the ", "other": "fish "}
    folder, model = layouts.saved(tmp_path, *modules, prompts=prompts, similarity_fn_name=similarity)
    record = check_dense(tmp_path, toy, folder, model)
    said = record.manifest.system.options
    assert (said["query_prompt"], said["document_prompt"], said["max_seq_length"]) == ("what is ", "the ", 12)
    assert said["similarity"] == (similarity or "cosine")


def test_options_are_those_of_the_library(tmp_path, toy):
    prompts = {"query": "what is ", "other": "fish "}
    pooling = lambda: Pooling(32, pooling_mode="weightedmean")  # noqa: E731
    folder, model = layouts.saved(tmp_path, pooling, prompts=prompts, similarity_fn_name="dot")
    options = {"truncate_dim": 8, "query_prompt_name": "other", "document_prompt": "trees ", "titles": False}
    asked, kept = encoded(folder, **options)
    np.testing.assert_allclose(asked.dense, model.encode(ASKED, prompt="fish ", truncate_dim=8), atol=1e-5)
    bodies = model.encode([doc.text for doc in PASSAGES], prompt="trees ", truncate_dim=8)
    np.testing.assert_allclose(kept.dense, bodies, atol=1e-5, rtol=2**-10)
    record = go(tmp_path, toy, f"st:{folder}", device="cpu", **options)
    assert record.manifest.system.variant == "8 values"
    model.similarity_fn_name, model.max_seq_length, model.truncate_dim = "cosine", 7, 16
    record = check_dense(tmp_path, toy, folder, model, similarity="cosine", max_seq_length=7, truncate_dim=16)
    assert record.manifest.system.options["max_seq_length"] == 7


def test_texts_of_several_batches_come_back_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.retrievers.sbert.encode._BATCHES", 2)
    folder, model = layouts.saved(tmp_path, lambda: Pooling(32, pooling_mode="max"), similarity_fn_name="dot")
    done = []
    kept = retriever(folder, batch_size=1).encoder.documents(PASSAGES, done.append)
    assert done == [2, 2, 2, 1]
    np.testing.assert_allclose(kept.dense, model.encode_document(JOINED), atol=1e-5, rtol=2**-10)


@pytest.mark.parametrize("make", [sbert.static, sbert.routed])
def test_static_embeddings_and_routers(tmp_path, toy, make):
    folder, model = make(tmp_path, similarity_fn_name="dot")
    record = check_dense(tmp_path, toy, folder, model)
    assert record.manifest.system.options["max_seq_length"] == (None if make is sbert.static else 12)


def test_a_router_is_cut_on_the_sides_that_cut(tmp_path, toy):
    folder, model = sbert.routed(tmp_path, similarity_fn_name="dot")
    whole = model.encode_document(JOINED)
    model[0].sub_modules["document"][0].max_seq_length = 5
    record = check_dense(tmp_path, toy, folder, model, max_seq_length=5)
    assert record.manifest.system.options["max_seq_length"] == 5
    assert not np.allclose(whole, model.encode_document(JOINED))


@pytest.mark.parametrize(
    ("make", "similarity", "options"),
    [
        (sbert.splade, "dot", {}),
        (sbert.splade, "cosine", {}),
        (sbert.splade, "dot", {"max_active_dims": 5}),
        (sbert.inference_free, "dot", {}),
    ],
)
def test_a_sparse_encoder_is_a_lexical_half_of_which_nothing_is_left_out(tmp_path, toy, make, similarity, options):
    folder, model = make(tmp_path, similarity_fn_name=similarity)
    model.max_active_dims = options.get("max_active_dims")
    asked, kept = encoded(folder, **options)
    queries, passages = (
        encode(texts, convert_to_sparse_tensor=False).float()
        for encode, texts in ((model.encode_query, ASKED), (model.encode_document, JOINED))
    )
    if similarity == "cosine":
        queries, passages = (torch.nn.functional.normalize(each, dim=1) for each in (queries, passages))
    np.testing.assert_allclose(asked.lexical, queries, atol=1e-5)
    most = int((passages != 0).sum(dim=1).max())
    assert kept.term_ids.shape == (len(DOCS), most)
    assert most == options.get("max_active_dims", most)
    whole = np.zeros(passages.shape, np.float32)
    np.put_along_axis(whole, kept.term_ids.astype(np.int64), kept.term_weights.astype(np.float32), axis=1)
    whole[:, 0] = passages[:, 0]  # where a row's padding lies; the vocabulary's first is [PAD]
    np.testing.assert_allclose(whole, passages, atol=1e-5, rtol=2**-10)
    assert asked.dense.shape[1] == kept.width == 0
    record = go(tmp_path, toy, f"st:{folder}", device="cpu", **options)
    check_ranking(ranked(record), model.similarity(queries, passages))
    mean = float((passages != 0).sum(dim=1).float().mean())
    assert record.manifest.system.variant == f"{mean:,.0f} of {passages.shape[1]} terms"
    assert record.manifest.system.bytes_per_document == pytest.approx(4 * mean)


def test_pairs_of_a_row_are_its_terms_in_order():
    """Of [0 .5 0 -2], [0 0 0 0] and [1 0 0 3] the terms 1 3, none, and 0 3."""
    ids, values = pairs(np.array([[0, 0.5, 0, -2], [0, 0, 0, 0], [1, 0, 0, 3]], np.float32))
    assert ids.tolist() == [[1, 3], [0, 0], [0, 3]]
    assert values.tolist() == [[0.5, -2], [0, 0], [1, 3]]
    assert pairs(np.zeros((2, 70_000), np.float32))[0].dtype == np.uint32


def test_passages_are_encoded_once(tmp_path, toy, monkeypatch):
    folder, _ = layouts.saved(tmp_path, lambda: Pooling(32, pooling_mode="mean"))
    first = go(tmp_path, toy, f"st:{folder}", device="cpu")
    monkeypatch.setattr(
        "sentence_transformers.SentenceTransformer.encode_document", lambda *a, **k: pytest.fail("encoded again")
    )
    other = go(tmp_path, toy, f"st:{folder}", device="cpu", query_prompt="river ")  # the queries alone
    assert other.folder != first.folder
    assert go(tmp_path, toy, f"st:{folder}", device="cpu").folder == first.folder


def test_the_fingerprint_is_of_every_file_that_decides_the_vectors(tmp_path):
    folder, _ = sbert.routed(tmp_path)
    before = retriever(folder).checkpoint_hash
    (folder / "README.md").write_text("a card")
    (folder / "training_args.bin").write_bytes(b"what a trainer leaves")
    assert retriever(folder).checkpoint_hash == before
    [weights] = folder.glob("document_0_Transformer/model.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed = retriever(folder).checkpoint_hash
    assert changed != before
    (folder / "document_1_Pooling" / "config.json").write_text("{}")
    assert retriever(folder).checkpoint_hash not in (before, changed)


def test_another_backend_has_its_own_files_in_the_fingerprint(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("harness.retrievers.sbert.retriever.version", lambda name: "6.0")
    folder, _ = layouts.saved(tmp_path, lambda: Pooling(32, pooling_mode="mean"))
    (folder / "onnx").mkdir()
    prints = []
    for content in (b"one", b"two"):
        (folder / "onnx" / "model.onnx").write_bytes(content)
        prints += [retriever(folder, backend=backend).fingerprint() for backend in ("torch", "onnx")]
    assert prints[0] == prints[2]
    assert prints[1] != prints[3]
    assert "onnxruntime" in prints[1]


def test_what_the_library_adds_or_leaves_aside_is_said(tmp_path):
    layouts.backbone(tmp_path / "plain")
    assert "sentence-transformers pools it by the mean" in retriever(tmp_path / "plain").notice
    folder, _ = layouts.saved(tmp_path, lambda: Pooling(32, pooling_mode="mean"), prompts={"passage": "text: "})
    assert "--option 'document_prompt=text: ' does" in retriever(folder).notice
    assert retriever(folder, document_prompt_name="passage").notice == ""
    assert retriever(folder).encoder.document_prompt == ""


@pytest.fixture
def plain(tmp_path):
    return layouts.saved(tmp_path, lambda: Pooling(32, pooling_mode="mean"), prompts={"query": "q "})[0]


def settings(folder, **changes):
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_options_that_cannot_be_are_refused(tmp_path, plain):
    for options, message in (
        ({"query_prompt": "a", "query_prompt_name": "query"}, "query_prompt ('a') and query_prompt_name ('query') are"),
        (
            {"document_prompt_name": "passage"},
            "has no prompt 'passage' (document_prompt_name); there is query, document",
        ),
        (
            {"max_active_dims": 5},
            "max_active_dims is given, and .* is a dense model, whose values are kept by truncate",
        ),
        (
            {"backend": "onnx"},
            "backend onnx needs sentence-transformers[onnx]: pip install 'sentence-transformers[onnx]'",
        ),
    ):
        with pytest.raises(InputError, match=re.escape(message).replace(r"\.\*", ".*")):
            retriever(plain, **options)
    for options, message in (
        ({"truncate_dim": 33}, "truncate_dim is 33, and .* has 32 values"),
        ({"max_seq_length": 515}, "cuts texts at 515 tokens, and has 514 positions. Give max_seq_length, 514 at most"),
    ):
        with pytest.raises(InputError, match=message):
            _ = retriever(plain, **options).encoder
    static, _ = sbert.static(tmp_path)
    with pytest.raises(InputError, match=r"max_seq_length is given, and .* takes texts of any length"):
        _ = retriever(static, max_seq_length=8).encoder
    sparse, _ = sbert.splade(tmp_path)
    with pytest.raises(InputError, match=r"truncate_dim is given, and .* is a SparseEncoder"):
        retriever(sparse, truncate_dim=8)


def test_models_of_other_kinds_are_refused(plain):
    settings(plain, similarity_fn_name="euclidean")
    with pytest.raises(InputError, match="compares vectors by euclidean, and the exact search knows dot and cosine"):
        retriever(plain)
    assert retriever(plain, similarity="dot").similarity == "dot"
    for kind, message in (
        ("CrossEncoder", "is a cross-encoder: .* Re-rank with it: --rerank"),
        ("MultiVectorEncoder", "is a late-interaction model"),
        ("Painter", "is a Painter, of which nothing here makes vectors"),
    ):
        settings(plain, model_type=kind)
        with pytest.raises(InputError, match=message):
            retriever(plain)
    (plain / "hybrid.json").write_text("{}")
    with pytest.raises(InputError, match="is a checkpoint in our own layout, whose halves are read as hf:"):
        retriever(plain)


def test_no_code_of_a_folder_is_run(tmp_path, plain):
    marker = tmp_path / "ran"
    (plain / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Pooling: pass\n")
    modules = json.loads((plain / "modules.json").read_text())
    modules[1]["type"] = "evil.Pooling"
    (plain / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match=r"needs evil\.Pooling, which is not part of sentence-transformers"):
        retriever(plain)
    routed, _ = sbert.routed(tmp_path)
    config = json.loads((routed / "router_config.json").read_text())
    name = next(iter(config["types"]))
    for types, message in (
        ({name: "evil.Pooling"}, r"needs evil\.Pooling"),
        ({"../../base": config["types"][name]}, "names the path '../../base', outside of its folder"),
    ):
        (routed / "router_config.json").write_text(json.dumps(config | {"types": types}))
        with pytest.raises(InputError, match=message):
            retriever(routed)
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Pooling", "AutoModel": "evil.Pooling"}}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    (plain / "evil.py").rename(tmp_path / "base" / "evil.py")
    with pytest.raises(InputError, match=r"sentence-transformers cannot load .*/base "):
        _ = retriever(tmp_path / "base").encoder
    assert not marker.exists()


def test_what_the_library_warns_of_is_in_the_record(tmp_path, toy, capsys):
    """An activation that it does not trust, for which it puts another."""
    folder, _ = layouts.saved(tmp_path, lambda: Pooling(32, pooling_mode="mean"), lambda: Dense(32, 8))
    [config] = folder.glob("2_Dense/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"activation_function": "evil.Activation"}))
    record = go(tmp_path, toy, f"st:{folder}", device="cpu")
    [said] = [each for each in record.manifest.warnings if "evil.Activation" in each]
    assert said.startswith(f"sentence-transformers, of {folder}: ")
    assert "falling back to the default activation function" in said
    assert capsys.readouterr().err.count("evil.Activation") == 1


def test_what_is_missing_or_damaged_is_one_line(tmp_path, plain, toy, bad, monkeypatch):
    with pytest.raises(InputError, match=r"st: needs a folder or hub id behind it, such as st:\./my-model"):
        get("st:")
    with pytest.raises(CheckpointError, match="is not a folder"):
        retriever("./nowhere")
    (plain / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds an adapter"):
        retriever(plain)
    (plain / "adapter_config.json").unlink()
    (plain / "model.safetensors").write_bytes(b"damaged")
    assert "sentence-transformers cannot load" in bad("run", "-r", f"st:{plain}", "-d", toy, "--device", "cpu")
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        assert "needs sentence-transformers: pip install 'dupmae-harness[st]'" in bad(
            "run", "-r", f"st:{plain}", "-d", toy
        )
    monkeypatch.setattr("harness.retrievers.sbert.retriever.version", lambda name: "4.1.0")
    with pytest.raises(InputError, match=r"needs sentence-transformers 6 or later, and 4\.1\.0 is installed"):
        retriever(plain)


def test_values_that_are_not_finite_are_refused(plain):
    found = retriever(plain)
    found.encoder.model[0].auto_model.embeddings.LayerNorm.weight.data[0] = torch.nan
    with pytest.raises(InputError, match=r"the vector of query 'q1' is not finite\. Is the checkpoint damaged"):
        found.encoder.queries([Query(*query) for query in QUERIES])
