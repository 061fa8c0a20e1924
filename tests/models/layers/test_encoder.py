"""Checkpoints in every layout, and the two halves against the formula written out."""

import json
import os

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from transformers import BertModel

from harness.models import hybrid
from harness.models.checkpoints import checkpoint, hub
from harness.models.errors import CheckpointError
from harness.models.hybrid import HybridSpec
from harness.models.layers.encoder import decoder_of, max_pooled_at, max_pooled_logits, top_terms
from harness.models.layers.families import mlm_head
from harness.retrievers.encoding.encode import TextEncoder
from harness.retrievers.types import Document, Query
from tests.support import tiny
from tests.support.formulas import naive

DOCS = [Document("1", "Apples", "red apples grow on trees"), Document("2", "", "water"), Document("3", "", "")]


def encoder(folder, **spec):
    own = hybrid.read(folder) or HybridSpec()
    return TextEncoder(checkpoint.load(folder, own.replace(**spec)), torch.device("cpu"))


def encode(folder, docs=DOCS, **spec):
    return encoder(folder, **spec).documents(docs, lambda _: None)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_documents_and_queries_are_what_the_formula_says(tmp_path, pooling):
    model = tiny.masked_lm()
    checkpoint.save(tmp_path / "m", model, tiny.tokenizer(), HybridSpec(lexical=12, pooling=pooling))
    found = encode(tmp_path / "m")
    for row, doc in enumerate(DOCS):
        cls, _, terms = naive(model, doc.joined, 12, pooling)
        np.testing.assert_allclose(found.dense[row], cls, rtol=2e-3, atol=2e-3)  # fp16 has 11 bits
        kept = {int(i): float(w) for i, w in zip(found.term_ids[row], found.term_weights[row], strict=True) if w != 0}
        assert kept == pytest.approx(terms, rel=2e-3)
    asked = encoder(tmp_path / "m").queries([Query("q", "what is a river"), Query("p", "")])
    cls, pooled, _ = naive(model, "what is a river", 12, pooling, length=32)
    np.testing.assert_allclose(asked.dense[0], cls, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(asked.lexical[0], pooled, rtol=1e-5, atol=1e-5)  # raw: negative logits stay
    assert (asked.lexical[0] < 0).any()
    assert (asked.lexical[1] == 0).all()


def test_a_text_without_words_has_an_empty_lexical_half(tmp_path):
    found = encode(tiny.save_hybrid(tmp_path / "m"))
    assert not found.term_ids[2].any()
    assert not found.term_weights[2].any()
    assert found.dense[2].any()


@pytest.mark.parametrize("chunk", [1, 100, 10_000, 1 << 25])
def test_chunked_max_pooling_is_the_whole_one(chunk):
    torch.manual_seed(1)
    hidden, ordinary = torch.randn(5, 9, 8), torch.rand(5, 9) < 0.6
    ordinary[3] = False
    head = nn.Linear(8, 50)
    whole = head(hidden).masked_fill(~ordinary.unsqueeze(-1), float("-inf")).amax(1)
    whole[3] = 0
    torch.testing.assert_close(max_pooled_logits(head, hidden, ordinary, chunk), whole, rtol=1e-6, atol=1e-6)


def test_top_terms_by_hand():
    """The three greatest of 0.5, -1, 2, 0.1, 3 are ids 0, 2 and 4; the negative and the small one go."""
    ids, weights = top_terms(torch.tensor([[0.5, -1.0, 2.0, 0.1, 3.0]]), 3)
    assert (ids.tolist(), weights.tolist()) == ([[0, 2, 4]], [[0.5, 2.0, 3.0]])


def test_vectors_do_not_depend_on_the_company_a_text_keeps(tmp_path):
    """Alone, or in a batch with longer texts: the same to float16's last bit but one."""
    folder = tiny.save_hybrid(tmp_path / "m")
    long = [Document(str(n), "", "red apples grow on trees " * n) for n in range(1, 20)]
    together = encode(folder, docs=[*DOCS, *long])
    for row, doc in enumerate(DOCS):
        alone = encode(folder, docs=[doc])
        np.testing.assert_allclose(together.dense[row], alone.dense[0], rtol=2e-3, atol=1e-3)


def test_cosine_is_normalised_and_prefixes_titles_and_lengths_count(tmp_path):
    folder = tiny.save_hybrid(tmp_path / "m", dense=32, lexical=0)
    unit = encode(folder, similarity="cosine").dense.astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=2e-3)
    plain = encode(folder).dense
    assert not np.array_equal(encode(folder, passage_prefix="what is ").dense[0], plain[0])
    cut = encode(folder, passage_length=4).dense
    assert not np.array_equal(cut[0], plain[0])
    np.testing.assert_array_equal(cut[1], plain[1])
    untitled = TextEncoder(checkpoint.load(folder, hybrid.read(folder)), torch.device("cpu"), "none")
    assert not np.array_equal(untitled.documents(DOCS, lambda _: None).dense[0], plain[0])


def test_the_scale_of_the_lexical_half_is_the_querys(tmp_path):
    folder = tiny.save_hybrid(tmp_path / "m")
    once, thrice = (encoder(folder, lexical_scale=s).queries([Query("q", "sea")]).lexical for s in (1.0, 3.0))
    np.testing.assert_allclose(thrice, 3 * once, rtol=1e-6)
    np.testing.assert_array_equal(encode(folder, lexical_scale=3.0).term_weights, encode(folder).term_weights)


# --- layouts


def test_the_layouts_of_one_model_give_the_same_vectors(tmp_path):
    """Masked-LM folder, bare encoder, `.bin`, and ours after save and load."""
    model = tiny.masked_lm()
    layouts = {name: tmp_path / name for name in ("mlm", "bare", "bin", "ours")}
    model.save_pretrained(layouts["mlm"])
    model.bert.save_pretrained(layouts["bare"])
    model.config.save_pretrained(layouts["bin"])
    torch.save(model.state_dict(), layouts["bin"] / "pytorch_model.bin")
    for name in ("mlm", "bare", "bin"):
        tiny.tokenizer().save_pretrained(layouts[name])
    checkpoint.save(layouts["ours"], model, tiny.tokenizer(), HybridSpec(lexical=12))
    first = encode(layouts["mlm"])
    assert first.term_ids.shape == (3, 0)
    for name in ("bare", "bin"):
        np.testing.assert_array_equal(encode(layouts[name]).dense, first.dense)
    hybrids = [encode(layouts[name], lexical=12) for name in ("mlm", "bin", "ours")]
    for other in hybrids[1:]:
        np.testing.assert_array_equal(other.dense, hybrids[0].dense)
        np.testing.assert_array_equal(other.term_weights, hybrids[0].term_weights)


def test_a_pooler_is_no_matter(tmp_path):
    BertModel(tiny.config()).save_pretrained(tmp_path / "pooled")
    tiny.tokenizer().save_pretrained(tmp_path / "pooled")
    assert encode(tmp_path / "pooled").dense.shape == (3, 32)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_ours_with_a_projection_survives_save_and_load(tmp_path, suffix):
    torch.manual_seed(4)
    model, layer = tiny.masked_lm(), nn.Linear(32, 16, bias=False)
    spec = HybridSpec(dense=16, lexical=12, temperature=20.0, query_length=24, trained={"stage": "hard negatives"})
    checkpoint.save(tmp_path / "m", model, tiny.tokenizer(), spec, layer)
    if suffix == "bin":
        (tmp_path / "m" / checkpoint.PROJECTION).unlink()
        torch.save({"weight": layer.weight.data}, tmp_path / "m" / "cls_projection.bin")
    assert hybrid.read(tmp_path / "m") == spec
    found = encode(tmp_path / "m")
    cls, _, _ = naive(model, DOCS[0].joined, 12)
    np.testing.assert_allclose(found.dense[0], layer.weight.detach().double().numpy() @ cls, rtol=2e-3, atol=2e-3)


def test_the_hash_follows_what_decides_the_vectors(tmp_path):
    folder = tiny.save_hybrid(tmp_path / "m")
    first = hub.content_hash(folder)
    (folder / "README.md").write_text("words")
    assert hub.content_hash(folder) == first
    spec = json.loads((folder / "hybrid.json").read_text())
    (folder / "hybrid.json").write_text(json.dumps(spec | {"lexical": 11}))
    assert hub.content_hash(folder) != first


# --- what is refused


def refused(folder, message, **spec):
    wanted = (hybrid.read(folder) or HybridSpec()).replace(**spec)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder, wanted)


def test_no_head_where_terms_are_kept(tmp_path):
    tiny.masked_lm().bert.save_pretrained(tmp_path / "bare")
    tiny.tokenizer().save_pretrained(tmp_path / "bare")
    refused(tmp_path / "bare", r"has no masked-LM head .*\(lexical 0\)", lexical=12)


def test_no_projection_where_the_widths_differ(tmp_path):
    folder = tiny.save_hybrid(tmp_path / "m", dense=32)
    refused(folder, r"a dense half of 16 was asked .* hidden width 32, .*random one would be noise", dense=16)
    save_file({"weight": torch.zeros(8, 32)}, folder / checkpoint.PROJECTION)
    refused(folder, r"holds `weight` \[8, 32\]; want `weight` \[16, 32\]", dense=16)


def test_a_damaged_projection(tmp_path):
    folder = tiny.save_hybrid(tmp_path / "m")
    (folder / checkpoint.PROJECTION).write_bytes(b"{}")
    refused(folder, "is damaged or holds more than tensors")


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (transformers.DistilBertConfig, {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}),
        (transformers.RobertaConfig, {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}),
        (transformers.MPNetConfig, {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}),
    ],
)
def test_other_bert_like_architectures(tmp_path, cls, settings):
    """Their own heads, against the whole model's logits."""
    torch.manual_seed(0)
    size = {"vocab_size": tiny.config().vocab_size, "initializer_range": 0.3, "pad_token_id": 0}
    model = transformers.AutoModelForMaskedLM.from_config(cls(**settings, **size)).eval()
    model.save_pretrained(tmp_path / "m")
    tiny.tokenizer().save_pretrained(tmp_path / "m")
    found = encoder(tmp_path / "m", lexical=4).queries([Query("q", "what is a river")])
    ids = tiny.tokenizer()("what is a river", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        out = model(ids, output_hidden_states=True)
    np.testing.assert_allclose(found.lexical[0], out.logits[0, 1:-1].amax(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.dense[0], out.hidden_states[-1][0, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (
            lambda: transformers.GPT2Model(transformers.GPT2Config(n_embd=32, n_layer=1, n_head=4, vocab_size=95)),
            "gpt2",
        ),
        (lambda: BertModel(tiny.config(is_decoder=True)), "bert"),
        (
            lambda: transformers.BartModel(transformers.BartConfig(d_model=16, encoder_layers=1, decoder_layers=1)),
            "bart",
        ),
    ],
)
@pytest.mark.parametrize("lexical", [0, 4])
def test_architectures_that_are_no_bert(tmp_path, model, kind, lexical):
    model().save_pretrained(tmp_path / "m")
    tiny.tokenizer().save_pretrained(tmp_path / "m")
    refused(tmp_path / "m", f"is a '{kind}' model, not a BERT-like encoder", lexical=lexical)


def test_a_tokenizer_larger_than_the_table(tmp_path):
    tiny.masked_lm(vocab_size=50).save_pretrained(tmp_path / "m")
    tiny.tokenizer().save_pretrained(tmp_path / "m")
    refused(tmp_path / "m", r"the tokenizer knows \d+ tokens, the embedding table has 50 rows")


def test_lengths_that_cannot_be(tmp_path):
    folder = tiny.save_hybrid(tmp_path / "m")
    refused(folder, "passage_length is 161; .* 160 tokens at most", passage_length=161)
    refused(folder, "query_length is 2, which leaves room for nothing but the 2 special tokens", query_length=2)
    refused(folder, "lexical is 5,000, more than", lexical=5000)


def test_a_pickle_that_would_run_code_is_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'pwned'}",))

    folder = tiny.save_hybrid(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    torch.save({"a": Evil()}, folder / "pytorch_model.bin")
    refused(folder, "cannot be loaded safely")
    (folder / checkpoint.PROJECTION).unlink()
    torch.save({"weight": Evil()}, folder / "cls_projection.bin")
    refused(folder, "holds more than tensors")
    assert not (tmp_path / "pwned").exists()


def test_remote_code_is_not_run(tmp_path):
    folder = tiny.save_hybrid(tmp_path / "m")
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"model_type": "foreign", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    refused(folder, "lacks a readable config.json")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors", "has no weights"),
        ("config.json", r"lacks a readable config\.json"),
        ("tokenizer.json", r"has no tokenizer: none of tokenizer\.json, vocab\.txt"),
    ],
)
def test_missing_files(tmp_path, name, message):
    folder = tiny.save_hybrid(tmp_path / "m")
    (folder / name).unlink()
    refused(folder, message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer_config.json", b"[1]", "lacks a readable config.json or tokenizer"),
        ("config.json", b'{"model_type": "bert", "hidden_size": "many"}', "lacks a readable config.json or tokenizer"),
        ("model.safetensors", b"", "do not fit its config.json, are damaged, or cannot be loaded safely"),
        ("pytorch_model.bin", b"", "do not fit its config.json, are damaged, or cannot be loaded safely"),
        ("pytorch_model.bin", b"text", "do not fit its config.json, are damaged, or cannot be loaded safely"),
    ],
)
def test_malformed_files(tmp_path, name, content, message):
    folder = tiny.save_hybrid(tmp_path / "m")
    if name.endswith(".bin"):
        (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(content)
    refused(folder, message)


def test_weights_that_are_not_finite(tmp_path):
    model = tiny.masked_lm()
    model.bert.encoder.layer[0].output.dense.bias.data[3] = float("nan")
    checkpoint.save(tmp_path / "m", model, tiny.tokenizer(), HybridSpec())
    refused(tmp_path / "m", "holds values that are not finite")


def test_a_tokenizer_that_does_not_name_its_special_tokens(tmp_path):
    folder = tiny.save_hybrid(tmp_path / "m", dense=32)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({k: v for k, v in settings.items() if not k.endswith("_token")})
    )
    refused(folder, "does not name its CLS and SEP tokens")


def test_damaged_weights(tmp_path):
    folder = tiny.save_hybrid(tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(folder, "cannot be loaded safely")
    model = tiny.masked_lm()
    save_file({k: v for k, v in model.bert.state_dict().items() if "layer.1" not in k}, folder / "model.safetensors")
    (folder / checkpoint.PROJECTION).unlink()
    refused(folder, "lacks weights of its own architecture", lexical=0, dense=32)


@pytest.mark.parametrize("lexical", [0, 12])
def test_weights_of_more_layers_than_the_configuration_counts(tmp_path, lexical):
    """Such a folder would give other vectors without a word."""
    folder = tiny.save_hybrid(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": config["num_hidden_layers"] - 1}))
    refused(folder, r"layers that its config.json does not count \(.*num_hidden_layers is 1\)", lexical=lexical)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds list"),
        ('{"lexcial": 3}', "lexcial"),
        ('{"pooling": "max"}', "pooling is 'max'; there is cls, mean"),
        ('{"dense": 0}', "dense and lexical are both 0"),
        ('{"lexical": -1}', "want a whole number from 0 up"),
        ('{"temperature": 0}', "want a number above 0"),
        ('{"lexical_scale": 1e300}', "want a number above 0, at most"),
        ('{"lexical": true}', "want a whole number from 0 up"),
        ('{"query_prefix": 5}', "query_prefix is 5; want a str"),
        ('{"trained": null}', "trained is None; want a dict"),
    ],
)
def test_a_hybrid_json_that_makes_no_sense(tmp_path, content, message):
    (tmp_path / "hybrid.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        hybrid.read(tmp_path)


def test_where_checkpoints_are_looked_for(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        hub.locate(str(tmp_path))
    with pytest.raises(CheckpointError, match="is not a folder"):
        hub.locate(str(tmp_path / "gone"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"Needed are config\.json.*hf download nobody/nothing --local-dir"):
        hub.locate("nobody/nothing")


def head_of(kind):
    names = ("dim", "n_heads", "n_layers") if kind == "distilbert" else ("hidden_size", "num_attention_heads")
    shape = dict(zip(names, (32, 4, 1), strict=False))
    settings = transformers.AutoConfig.for_model(kind, vocab_size=40, max_position_embeddings=16, **shape)
    return mlm_head(transformers.AutoModelForMaskedLM.from_config(settings))


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "mpnet"])
def test_the_logits_of_some_terms_are_those_of_all(kind):
    """Values and the gradients of states, decoder and transform, against the whole [B,L,V]."""
    torch.manual_seed(3)
    head = head_of(kind)
    hidden, keep = torch.randn(4, 6, 32, requires_grad=True), torch.rand(4, 6) < 0.6
    keep[2] = False  # a text without words
    weights = list(head.parameters())
    whole = max_pooled_logits(head, hidden, keep)  # [B,V]
    ids, _ = top_terms(whole.detach(), 9)
    some = max_pooled_at(head, hidden, keep, ids)
    torch.testing.assert_close(some, whole.gather(1, ids), rtol=1e-5, atol=1e-6)
    factors = torch.randn_like(some)
    ours = torch.autograd.grad((some * factors).sum(), [hidden, *weights])
    theirs = torch.autograd.grad((whole.gather(1, ids) * factors).sum(), [hidden, *weights])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_head_without_a_last_linear_map_is_refused():
    with pytest.raises(ValueError, match="does not end in a linear map with a bias"):
        decoder_of(nn.Sequential(nn.Linear(4, 4), nn.GELU()))
