"""Late interaction: texts become the token vectors that ColBERT's code and sentence-transformers make of them."""

import json
import string

import numpy as np
import pytest
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch.nn import functional

from harness.models.checkpoints import checkpoint, late, late_layouts
from harness.models.checkpoints.late_layouts import LateSpec
from harness.models.checkpoints.modules_json import json_in
from harness.models.checkpoints.weights import quiet, tensors_only
from harness.models.errors import CheckpointError
from harness.models.hybrid import HybridSpec
from harness.retrievers.late_interaction.encode import TokenEncoder
from harness.retrievers.types import Document, Query
from tests.support import late as small
from tests.support import tiny

TEXTS = ["red apples, grow on trees.", "water", "what is a river? to the sea!", "zq 9", "", "green pears . , " * 9]
ASKED = ["red apples", "what is a river to the sea", "", "the bank of the river runs on and on to the sea on trees"]
CPU = torch.device("cpu")


def encoder(folder, query=None, passage=None):
    layout = late_layouts.read(folder)
    return TokenEncoder(late.load(layout, layout.spec.lengths(query, passage)), CPU)


def queries(found, texts=ASKED):
    made = found.queries([Query(str(n), text) for n, text in enumerate(texts)])
    return [made.tokens[low:high] for low, high in zip(made.token_offsets, made.token_offsets[1:], strict=False)]


def documents(found, texts=TEXTS):
    """As `TokenEncoder.documents`, before they are rounded to 16 bits; and that they are then rounded, nothing else."""
    docs = [Document(str(n), "", text) for n, text in enumerate(texts)]
    tokens = found._passages(docs)
    exact = [np.empty(0)] * len(docs)
    for places, vectors in found._encode(tokens, [len(row) for row in tokens]):
        for place, own in zip(places, vectors.numpy(), strict=True):
            exact[place] = own[: len(tokens[place])][found._kept(tokens[place])]
    stored = found.documents(docs, lambda _: None)
    np.testing.assert_array_equal(stored.tokens, np.concatenate(exact).astype(np.float16))
    assert np.diff(stored.token_offsets.astype(int)).tolist() == found.lengths(docs).tolist() == list(map(len, exact))
    return exact


def naive(query, doc):
    """Σ_i max_j q_i · d_j, in float64."""
    return (query.astype(float) @ doc.astype(float).T).max(axis=1).sum()


def same(found, model):
    """The same vectors as sentence-transformers' to 1e-5, and the same ranking of every query."""
    asked, docs = queries(found), documents(found)
    theirs = model.encode_query(ASKED), model.encode_document(TEXTS)
    for ours, wanted in ((asked, theirs[0]), (docs, theirs[1])):
        assert [len(own) for own in ours] == [len(own) for own in wanted]
        for own, other in zip(ours, wanted, strict=True):
            np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-5)
    scores = np.array([[naive(query, doc) for doc in docs] for query in asked])
    wanted = model.similarity(*theirs).numpy()
    np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(np.argsort(-scores), np.argsort(-wanted))


@pytest.fixture
def theirs():
    def load(folder):
        with quiet():
            return MultiVectorEncoder(str(folder), device="cpu").eval()

    return load


@pytest.mark.parametrize(
    "metadata", [{}, {"attend_to_mask_tokens": True}, {"mask_punctuation": False}, {"query_maxlen": 7, "doc_maxlen": 9}]
)
def test_the_layout_of_colbert_as_sentence_transformers_reads_it(tmp_path, theirs, metadata):
    small.save(tmp_path / "m", **metadata)
    same(encoder(tmp_path / "m"), theirs(tmp_path / "m"))


def test_what_sentence_transformers_saves_of_it(tmp_path, theirs):
    small.save(tmp_path / "m")
    model = theirs(tmp_path / "m")
    model.save(str(tmp_path / "st"), create_model_card=False)
    assert late_layouts.read(tmp_path / "st").kind == "sentence-transformers"
    same(encoder(tmp_path / "st"), model)


CHAINS = {
    "filled up to a least length, and attended to": (
        {"query_expansion": {"strategy": "min", "length": 6, "attend": True}, "query_length": 10},
        [{}, {"bias": True, "activation_function": torch.nn.Tanh()}],
        [",", "."],
    ),
    "filled up with another token": (
        {"query_expansion": {"strategy": "fixed", "length": 9, "token": "[UNK]"}, "document_length": 8},
        [{}],
        [],
    ),
    "not filled up": ({"query_length": 5}, [{}], list(string.punctuation)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_multi_vector_modules(tmp_path, name):
    settings, dense, skipped = CHAINS[name]
    small.save(tmp_path / "base")
    plain = {"module_input_name": "token_embeddings", "bias": False, "activation_function": torch.nn.Identity()}
    torch.manual_seed(2)
    with quiet():
        body = Transformer(str(tmp_path / "base"), **settings)
        layers = [Dense(32 if not n else 8, 8, **(plain | own)) for n, own in enumerate(dense)]
        last = [MultiVectorMask(skiplist_words=skipped), Normalize(module_input_name="token_embeddings")]
        prompts = {"query": "what is ", "document": "river "}
        model = MultiVectorEncoder(modules=[body, *layers, *last], prompts=prompts, device="cpu").eval()
        model.save(str(tmp_path / "st"), create_model_card=False)
    same(encoder(tmp_path / "st"), model)


def by_hand(parts, tokens, attended):
    """Normalise(W BERT(tokens)), of which the first `attended` are attended to."""
    body, linear = parts
    mask = torch.tensor([[1] * attended + [0] * (len(tokens) - attended)])
    with torch.no_grad():
        hidden = body(torch.tensor([tokens]), attention_mask=mask).last_hidden_state
        return functional.normalize(linear(hidden)[0], dim=-1).numpy()


def test_a_query_is_filled_up_with_mask_tokens_that_count_and_are_not_seen(tmp_path):
    """[CLS] [Q] red apples [SEP] and 7 masks make 12; what comes before does not depend on the masks' number."""
    parts = small.save(tmp_path / "m")
    ids = tiny.tokenizer(*small.MORE).convert_tokens_to_ids
    tokens = ids(["[CLS]", "[unused0]", "red", "apples", "[SEP]"]) + ids(["[MASK]"]) * 7
    [found] = queries(encoder(tmp_path / "m"), ["red apples"])
    assert found.shape == (12, small.WIDTH)
    np.testing.assert_allclose(found, by_hand(parts, tokens, 5), atol=1e-6)
    [longer] = queries(encoder(tmp_path / "m", query=30), ["red apples"])
    assert len(longer) == 30
    np.testing.assert_allclose(longer[:12], found, atol=1e-6)
    assert np.abs(by_hand(parts, tokens, 12) - found).max() > 1e-2  # the attention mask does matter


def test_punctuation_is_read_and_then_left_out(tmp_path):
    """Of [CLS] [D] water , runs . [SEP] the comma and the point go, after the others have seen them."""
    parts = small.save(tmp_path / "m")
    ids = tiny.tokenizer(*small.MORE).convert_tokens_to_ids
    tokens = ids(["[CLS]", "[unused1]", "water", ",", "runs", ".", "[SEP]"])
    [found] = documents(encoder(tmp_path / "m"), ["water, runs."])
    wanted = by_hand(parts, tokens, 7)
    np.testing.assert_allclose(found, wanted[[0, 1, 2, 4, 6]], atol=1e-6)
    unseen = by_hand(parts, [token for token in tokens if token not in ids([",", "."])], 5)
    assert np.abs(unseen - found).max() > 1e-2


def test_a_marker_takes_a_place_of_the_length(tmp_path):
    """20 tokens with CLS, marker and SEP: 17 words, as colbert-ai's `doc_maxlen - 1` before the marker is put in."""
    small.save(tmp_path / "m")
    assert encoder(tmp_path / "m")._passages([Document("d", "", "water " * 40)])[0] == [
        *tiny.tokenizer(*small.MORE).convert_tokens_to_ids(["[CLS]", "[unused1]", *["water"] * 17, "[SEP]"])
    ]


def test_titles_come_first(tmp_path):
    small.save(tmp_path / "m")
    found = encoder(tmp_path / "m")
    docs = [Document("d", "a river", "water"), Document("d", "", "a river water")]
    vectors = found.documents(docs, lambda _: None)
    half = len(vectors.tokens) // 2
    np.testing.assert_array_equal(vectors.tokens[:half], vectors.tokens[half:])


# --- what is refused


def refused(folder, message, query=None, passage=None):
    with pytest.raises(CheckpointError, match=message):
        encoder(folder, query, passage)


def test_checkpoints_that_are_not_what_they_say(tmp_path):
    for name, without, metadata, said in (
        ("a", ["linear.weight"], {}, "lack linear.weight, which makes token vectors"),
        ("b", [], {"dim": 128}, "token vectors have 128 values, and linear.weight makes 16"),
        ("c", ["[unused1]"], {}, r"its marker '\[unused1\]' is not in the tokenizer's vocabulary"),
        ("d", ["bert.encoder.layer.1.output.dense.weight"], {}, "lacks weights of its own architecture"),
        ("e", [], {"doc_maxlen": 161}, "passage_length is 161; .* has positions for 160"),
        ("f", [], {"query_maxlen": 3}, "query_length is 3, which leaves room for nothing but the 3 special"),
        ("g", [], {"similarity": "l2"}, "similarity is 'l2'; there is cosine"),
        ("h", [], {"interaction": "flipr"}, "interaction is 'flipr'; there is colbert"),
        ("i", [], {"query_maxlen": "32"}, "query_length is '32'; want a whole number"),
    ):
        small.save(tmp_path / name, without=without, **metadata)
        refused(tmp_path / name, said)


def test_a_width_that_does_not_fit_and_lengths_from_the_user(tmp_path):
    small.save(tmp_path / "m")
    refused(tmp_path / "m", "query_length is 161; .* has positions for 160", query=161)
    weights = tmp_path / "m" / "model.safetensors"
    state = {name: value.clone() for name, value in tensors_only(weights).items()}
    weights.unlink()
    torch.save(state | {"linear.weight": torch.zeros(16, 31)}, tmp_path / "m" / "pytorch_model.bin")
    refused(tmp_path / "m", r"a weight \[16, 31\] of linear; what comes before it is 32 wide")
    torch.save(state | {"linear.weight": torch.full((16, 32), torch.nan)}, tmp_path / "m" / "pytorch_model.bin")
    refused(tmp_path / "m", "values that are not finite")
    (tmp_path / "m" / "artifact.metadata").write_text("[]")
    refused(tmp_path / "m", "artifact.metadata holds a list")


def test_a_tokenizer_of_another_model(tmp_path):
    small.save(tmp_path / "m")
    tiny.tokenizer(*small.MORE, *(f"word{n}" for n in range(9))).save_pretrained(tmp_path / "m")
    refused(tmp_path / "m", "They do not belong together")
    core = tiny.tokenizer(*small.MORE)
    core.backend_tokenizer.post_processor = None
    core.save_pretrained(tmp_path / "m")
    refused(tmp_path / "m", "does not begin a text with a CLS token")
    core = tiny.tokenizer(*small.MORE)
    core.mask_token = None
    core.save_pretrained(tmp_path / "m")
    refused(tmp_path / "m", "filled up with 'mask tokens', which the tokenizer lacks")


def test_chains_that_cannot_be_made(tmp_path, theirs):
    small.save(tmp_path / "m")
    theirs(tmp_path / "m").save(str(tmp_path / "st"), create_model_card=False)

    def changed(path, **values):
        before = (tmp_path / "st" / path).read_text()
        (tmp_path / "st" / path).write_text(json.dumps(json.loads(before) | values))
        return lambda: (tmp_path / "st" / path).write_text(before)

    for path, values, said in (
        ("config_sentence_transformers.json", {"model_type": "ColBERT"}, "saved by PyLate"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "meanmaxsim"}, "there is maxsim"),
        ("1_Dense/config.json", {"use_residual": True}, "does more than one layer"),
        ("1_Dense/config.json", {"module_input_name": "sentence_embedding"}, "does more than one layer"),
        ("2_MultiVectorMask/config.json", {"keep_only_token_ids": [3]}, "keeps named tokens alone"),
        ("2_MultiVectorMask/config.json", {"skiplist_tasks": ["query", "document"]}, "other texts than documents"),
        ("2_MultiVectorMask/config.json", {"skiplist_words": ["[SEP]"]}, "no vector of an empty text"),
        ("sentence_bert_config.json", {"query_expansion": {"strategy": "odd", "length": 4}}, "want a strategy"),
    ):
        undo = changed(path, **values)
        refused(tmp_path / "st", said)
        undo()
    encoder(tmp_path / "st")
    modules = json.loads((tmp_path / "st" / "modules.json").read_text())
    for place, kind, said in (
        (2, "Normalize", "not one Transformer first"),
        (1, "TokenPooling", "TokenPooling is not"),
    ):
        new = [dict(module) for module in modules]
        new[place]["type"] = f"sentence_transformers.models.{kind}"
        (tmp_path / "st" / "modules.json").write_text(json.dumps(new))
        refused(tmp_path / "st", said)


def test_it_is_not_taken_for_a_single_vector(tmp_path):
    small.save(tmp_path / "m")
    with pytest.raises(CheckpointError, match=r"is a ColBERT checkpoint, .*: run colbertv2"):
        checkpoint.load(tmp_path / "m", HybridSpec())
    assert json_in(tmp_path / "m" / "config.json")["architectures"] == ["HF_ColBERT"]


def test_lengths_of_the_spec():
    assert LateSpec().lengths(64, None) == LateSpec(query_length=64, query_least=64)
    least = LateSpec(query_length=50, query_least=32)
    assert least.lengths(40, 300) == LateSpec(query_length=40, query_least=32, passage_length=300)
    assert least.lengths(20, None).query_least == 20
    with pytest.raises(CheckpointError, match="filled up to 33 tokens and cut at 32"):
        LateSpec(query_least=33)
