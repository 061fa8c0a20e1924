"""Other libraries' folders, in their own layout, give what those libraries make of them."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize, Pooling
from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling
from torch import nn
from transformers import (
    BertForSequenceClassification,
)

from harness.models.checkpoints import checkpoint, hub, layouts
from harness.models.checkpoints.weights import quiet
from harness.models.errors import CheckpointError
from harness.retrievers.encoding.encode import TextEncoder
from harness.retrievers.types import Document, Query
from tests.support import tiny
from tests.support.layouts import SIZE, ance, backbone, saved

TEXTS = ["red apples grow on trees", "water", "what is a river to the sea", "zq 9", ""]


def ours(folder, **changes):
    layout = layouts.read(folder)
    return TextEncoder(checkpoint.load(folder, layout.spec().replace(**changes)), torch.device("cpu"))


def queries(encoder, texts=TEXTS):
    return encoder.queries([Query(str(n), text) for n, text in enumerate(texts)])


CHAINS = {
    "mean, cosine": ("bert", [lambda: Pooling(32, "mean"), Normalize]),
    "cls": ("distilbert", [lambda: Pooling(32, "cls")]),
    "dense without bias, as GTR": (
        "t5",
        [
            lambda: Pooling(32, "mean"),
            lambda: Dense(32, 24, bias=False, activation_function=nn.Identity()),
            Normalize,
        ],
    ),
    "dense and LayerNorm, as ANCE": (
        "roberta",
        [
            lambda: Pooling(32, "cls"),
            lambda: Dense(32, 32, activation_function=nn.Identity()),
            lambda: LayerNorm(32),
        ],
    ),
    "tanh between two normalisations": (
        "bert",
        [lambda: Pooling(32, "mean"), Normalize, lambda: Dense(32, 8, activation_function=nn.Tanh()), Normalize],
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_gives_the_vectors_and_the_ranking_of_sentence_transformers(tmp_path, name):
    """Also of texts that are cut at the folder's own length, 12 tokens, and of an empty one."""
    kind, modules = CHAINS[name]
    folder, model = saved(tmp_path, *modules, kind=kind, similarity_fn_name="dot")
    texts = [*TEXTS, " ".join(["green pears"] * 30)]
    wanted = model.encode(texts)
    found = queries(ours(folder), texts)
    assert found.lexical.shape[1] == 0
    np.testing.assert_allclose(found.dense, wanted, rtol=1e-5, atol=1e-5)
    asked = [" ".join(reversed(text.split())) for text in texts[:3]]
    scores = queries(ours(folder), asked).dense @ found.dense.T
    np.testing.assert_array_equal(scores.argsort(), (model.encode(asked) @ wanted.T).argsort())


def test_prompts_are_prefixes(tmp_path):
    prompts = {"query": "what is ", "document": "river "}
    folder, model = saved(tmp_path, lambda: Pooling(32, "mean"), prompts=prompts, similarity_fn_name="dot")
    encoder = ours(folder)
    np.testing.assert_allclose(queries(encoder).dense, model.encode_query(TEXTS), rtol=1e-5, atol=1e-5)
    docs = encoder.documents([Document(str(n), "", text) for n, text in enumerate(TEXTS)], lambda _: None)
    np.testing.assert_allclose(docs.dense, model.encode_document(TEXTS), rtol=2e-3, atol=2e-3)  # stored in 16 bits


def test_where_no_similarity_is_named_it_is_the_cosine(tmp_path):
    """As the library's own `similarity` has it."""
    folder, model = saved(tmp_path, lambda: Pooling(32, "mean"))
    found = queries(ours(folder)).dense
    wanted = model.similarity(model.encode(TEXTS), model.encode(TEXTS)).numpy()
    np.testing.assert_allclose(found @ found.T, wanted, rtol=1e-5, atol=1e-5)


def test_the_layout_of_old_releases(tmp_path):
    """The backbone in a folder of its own, flags instead of a mode, weights as .bin, lengths in a file of their own."""
    folder, model = saved(
        tmp_path, lambda: Pooling(32, "cls"), lambda: Dense(32, 16, activation_function=nn.Identity()),
        similarity_fn_name="dot",
    )  # fmt: skip
    wanted = model.encode(TEXTS)
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and path.name not in ("modules.json", "config_sentence_transformers.json"):
            path.rename(inner / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0] |= {"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}
    (folder / "modules.json").write_text(json.dumps(modules))
    (inner / "sentence_bert_config.json").write_text('{"max_seq_length": 12, "do_lower_case": false}')
    flags = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "word_embedding_dimension": 32}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    state = {name: value.clone() for name, value in model[2].state_dict().items()}
    (folder / "2_Dense" / "model.safetensors").unlink()
    torch.save(state, folder / "2_Dense" / "pytorch_model.bin")
    found = layouts.read(folder)
    assert (found.says["passage_length"], found.says["pooling"]) == (12, "cls")
    assert hub.locate(str(folder)) == folder
    np.testing.assert_allclose(queries(ours(folder)).dense, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strategy", ["max", "sum"])
def test_splade_keeps_every_term_above_0(tmp_path, strategy):
    with quiet():
        tiny.masked_lm().save_pretrained(tmp_path / "base")
        tiny.tokenizer().save_pretrained(tmp_path / "base")
        model = SparseEncoder(modules=[MLMTransformer(str(tmp_path / "base")), SpladePooling(strategy)], device="cpu")
        model.save(str(tmp_path / "sparse"), create_model_card=False)
    encoder = ours(tmp_path / "sparse")
    wanted = model.encode(TEXTS, convert_to_sparse_tensor=False).numpy()
    assert (wanted == 0).any()
    found = queries(encoder)
    assert found.dense.shape[1] == 0
    np.testing.assert_allclose(found.lexical, wanted, rtol=1e-5, atol=1e-5)
    docs = encoder.documents([Document(str(n), "", text) for n, text in enumerate(TEXTS)], lambda _: None)
    assert docs.term_ids.shape[1] == (wanted > 0).sum(axis=1).max() < SIZE
    for row, weights in enumerate(wanted):
        dense = np.zeros(SIZE)
        np.add.at(dense, docs.term_ids[row], docs.term_weights[row])
        np.testing.assert_allclose(dense, weights, rtol=1e-3, atol=1e-6)


def test_ance_is_the_norm_of_the_projected_first_state(tmp_path):
    """RobertaDot_NLL_LN: norm(embeddingHead(h_0)), written out."""
    body, head, norm = ance(tmp_path / "m")
    assert layouts.read(tmp_path / "m").kind == "ANCE"
    found = queries(ours(tmp_path / "m")).dense
    for row, text in enumerate(TEXTS):
        with torch.no_grad():
            first = body(**tiny.tokenizer()(text, return_tensors="pt")).last_hidden_state[0, 0]
            wanted = norm(head(first))
        np.testing.assert_allclose(found[row], wanted, rtol=1e-5, atol=1e-5)


def test_the_hash_follows_the_modules(tmp_path):
    folder, _ = saved(tmp_path, lambda: Pooling(32, "cls"), lambda: Dense(32, 8), Normalize)
    first = hub.content_hash(folder)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    second = hub.content_hash(folder)
    weights = folder / "2_Dense" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert len({first, second, hub.content_hash(folder)}) == 3


# --- what is refused


def refused(folder, message, **changes):
    with pytest.raises(CheckpointError, match=message):
        ours(folder, **changes)


def test_chains_that_cannot_be_made(tmp_path):
    folder, _ = saved(tmp_path, lambda: Pooling(32, "cls"), lambda: Dense(32, 8))
    modules = json.loads((folder / "modules.json").read_text())

    def changed(place, kind):
        new = [dict(module) for module in modules]
        new[place]["type"] = f"sentence_transformers.models.{kind}"
        (folder / "modules.json").write_text(json.dumps(new))

    for place, kind, why in (
        (0, "StaticEmbedding", "does not begin with a Transformer"),
        (1, "WeightedLayerPooling", "Pooling does not come behind the Transformer"),
        (2, "CNN", "CNN is not known"),
        (0, "MLMTransformer", "a sparse encoder is MLMTransformer, SpladePooling"),
    ):
        changed(place, kind)
        refused(folder, why)
    (folder / "modules.json").write_text('{"not": "a list"}')
    refused(folder, "not a list of modules")
    (folder / "modules.json").write_text('[{"type": "a.Transformer", "path": "../elsewhere"}]')
    refused(folder, "outside of its folder")
    (folder / "modules.json").write_text("[")
    refused(folder, "is not JSON")


@pytest.mark.parametrize("text", ["[]", "null", '"x"', "3"])
def test_a_config_that_is_no_object(tmp_path, text):
    folder = tiny.save_hybrid(tmp_path / "m")
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json holds a \w+, not a dict"):
        layouts.demand(layouts.read(folder), "bert", None, "DupMAE")


def test_modules_that_do_not_fit(tmp_path):
    folder, _ = saved(tmp_path, lambda: Pooling(32, "cls"), lambda: Dense(32, 8))
    refused(folder, "makes vectors of 8 values, and 16 were asked for", dense=16)
    (folder / "2_Dense" / "model.safetensors").unlink()
    refused(folder, "2_Dense has no weights: none")
    torch.save({"linear.weight": torch.zeros(8, 31)}, folder / "2_Dense" / "pytorch_model.bin")
    refused(folder, r"holds a weight \[8, 31\] of linear; what comes before it is 32 wide")
    (folder / "2_Dense" / "config.json").write_text('{"activation_function": "torch.nn.modules.Softmax2d"}')
    refused(folder, "the activation Softmax2d is not known; there is Identity, Tanh")
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "lasttoken", "embedding_dimension": 32}')
    refused(folder, "pools by lasttoken; there is cls, mean")


def test_lower_case_that_the_tokenizer_does_not_see_to(tmp_path):
    folder, _ = saved(tmp_path, lambda: Pooling(32, "cls"))
    (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    ours(folder)  # ours lowers it itself
    core = json.loads((folder / "tokenizer.json").read_text())
    core["normalizer"]["lowercase"] = False
    core["model"]["vocab"]["A"] = core["model"]["vocab"].pop("##9")
    (folder / "tokenizer.json").write_text(json.dumps(core))
    refused(folder, "lower case before its tokenizer")


def test_no_terms_from_the_encoder_of_an_encoder_decoder(tmp_path):
    backbone(tmp_path / "m", "t5")
    refused(tmp_path / "m", "has no masked-LM head", lexical=4)


def test_a_module_without_files_need_not_be_there(tmp_path):
    """Wheels and git keep no empty folder, such as that of Normalize; the hash of what is there is the same."""
    folder, _ = saved(tmp_path, lambda: Pooling(32, "mean"), Normalize)
    [empty] = [path for path in folder.iterdir() if path.name.endswith("_Normalize")]
    for path in empty.iterdir():
        path.unlink()
    before = hub.content_hash(folder)
    empty.rmdir()
    assert hub.content_hash(folder) == before


def test_t5_has_no_cls_token(tmp_path):
    backbone(tmp_path / "m", "t5")
    refused(tmp_path / "m", "has no CLS token. Pool by the mean")
    assert ours(tmp_path / "m", pooling="mean").loaded.spec.dense == 32


def test_a_classifier_is_no_encoder(tmp_path):
    with quiet():
        BertForSequenceClassification(tiny.config()).save_pretrained(tmp_path / "m")
    tiny.tokenizer().save_pretrained(tmp_path / "m")
    refused(tmp_path / "m", "is a classifier .BertForSequenceClassification.: .* --rerank takes a classifier")
