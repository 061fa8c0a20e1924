"""sentence-transformers folders as people have them: read as that library reads them, or refused; never otherwise."""

import json
import random
import shutil
import warnings

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize, Pooling
from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

from harness.models.checkpoints import checkpoint, hub, layouts
from harness.models.checkpoints.weights import quiet
from harness.models.errors import CheckpointError
from harness.retrievers.encoding.encode import TextEncoder
from harness.retrievers.types import Query
from tests.support import tiny
from tests.support.layouts import backbone, saved

TEXTS = ["red apples grow on trees", "green pears", "", "water runs to the sea " * 30]


def ours(folder, texts):
    """Vectors of texts as queries and as passages, both in 32 bits."""
    found = hub.locate(str(folder))
    loaded = checkpoint.load(found, layouts.read(found).spec())
    queries = TextEncoder(loaded, torch.device("cpu"), "none").queries([Query(str(n), t) for n, t in enumerate(texts)])
    spec = loaded.spec
    other = loaded.encoder.spec.replace(query_length=spec.passage_length, query_prefix=spec.passage_prefix)
    loaded = checkpoint.load(found, other)
    passages = TextEncoder(loaded, torch.device("cpu"), "none").queries([Query(str(n), t) for n, t in enumerate(texts)])
    return queries.dense, passages.dense, spec.similarity


def theirs(folder, texts):
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True).eval()
    return model.encode_query(texts), model.encode_document(texts)


def same(folder, texts=TEXTS):
    """True where both read the folder alike, None where ours refuses it; an error where they differ."""
    try:
        queries, passages, similarity = ours(folder, texts)
    except CheckpointError:
        return None
    wanted = theirs(folder, texts)
    unit = (lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)) if similarity == "cosine" else (lambda x: x)
    for found, want in zip((queries, passages), wanted, strict=True):
        np.testing.assert_allclose(unit(found), unit(want), atol=1e-4, rtol=0)
    return True


def edit(folder, name, **values):
    """Change keys of a JSON file; None as a value takes the key away, {"null": …} writes null."""
    path = folder / name
    now = json.loads(path.read_text()) if path.is_file() else {}
    for key, value in values.items():
        now.pop(key, None)
        if value is not None:
            now[key] = None if value == "null" else value
    path.write_text(json.dumps(now))


ST, BERT = "config_sentence_transformers.json", "sentence_bert_config.json"
CHAINS = {
    "mean": [lambda: Pooling(32, "mean")],
    "cls, normalised": [lambda: Pooling(32, "cls"), Normalize],
    "mean, dense": [lambda: Pooling(32, "mean"), lambda: Dense(32, 12), Normalize],
    "cls, norm": [lambda: Pooling(32, "cls"), lambda: LayerNorm(32)],
}


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    place = tmp_path_factory.mktemp("chains")
    return {name: saved(place / str(n), *CHAINS[name])[0] for n, name in enumerate(CHAINS)}


@pytest.fixture
def folder(chains, tmp_path):
    """A copy of one of the chains."""

    def copy(name="mean"):
        return shutil.copytree(chains[name], tmp_path / name.replace(", ", "-"))

    return copy


@pytest.mark.parametrize(
    ("prompts", "default", "want"),
    [
        ({"query": "river ", "document": "", "other": "green "}, "other", True),  # "" is a prompt: was the default one
        ({"query": "river "}, "query", True),
        ({"other": "river "}, "other", True),  # encode_query and encode_document do not use it
        ({"query": "river ", "passage": "green "}, None, True),
        ({"query": "null", "document": "green "}, None, True),
        ({}, None, True),
        ({"query": "river "}, "missing", None),
        ({"query": "river "}, "", None),
    ],
)
def test_prompts(folder, prompts, default, want):
    """An empty `document` prompt was taken for none, and the default one put before passages: cosines 0.77 apart."""
    here = folder()
    edit(here, ST, prompts={name: None if text == "null" else text for name, text in prompts.items()},
         default_prompt_name=default if default is not None else "null")  # fmt: skip
    assert same(here) is want


def test_a_prompt_for_passages_that_is_not_used_is_told(folder, tmp_path, cli, beir):
    here = folder()
    edit(here, ST, prompts={"query": "river ", "passage": "green "})
    answer = cli("run", "-r", f"hf:{here}", "-d", beir(), "-m", "r@2")
    assert answer.code == 0, answer.err
    assert "has a prompt for 'passage' and none for 'document'" in answer.err
    assert "--option 'passage_prefix=green '" in answer.err
    assert "none for" not in cli("run", "-r", f"hf:{here}", "-d", beir(), "--option", "passage_prefix=green ").err


@pytest.mark.parametrize(
    ("chain", "spoil", "message"),
    [
        ("cls, normalised", lambda f: shutil.rmtree(f / "1_Pooling"), r"1_Pooling/config.json is missing"),
        ("cls, normalised", lambda f: edit(f, "1_Pooling/config.json", embedding_dimension=None), "embedding_dim"),
        ("mean, dense", lambda f: (f / "2_Dense/config.json").unlink(), r"2_Dense/config.json is missing"),
        ("mean, dense", lambda f: edit(f, "2_Dense/config.json", activation_function="mine.ReLU"), "nobody's code"),
        ("mean, dense", lambda f: edit(f, "2_Dense/config.json", bias=False), "says bias is False"),
        ("mean, dense", lambda f: edit(f, "2_Dense/config.json", module_output_name="other"), "simply follow"),
        ("mean, dense", lambda f: edit(f, "3_Normalize/config.json", module_input_name="other"), "simply follow"),
        ("cls, norm", lambda f: (f / "2_LayerNorm/config.json").unlink(), r"2_LayerNorm/config.json is missing"),
        ("mean", lambda f: edit(f, "adapter_config.json", peft_type="LORA"), "holds an adapter .* merge_and_unload"),
        ("mean", lambda f: edit(f, BERT, model_kwargs={"attn_implementation": "eager"}), "model_kwargs is"),
        ("mean", lambda f: edit(f, BERT, tokenizer_args={"model_max_length": 3}), "tokenizer_args is"),
        ("mean", lambda f: edit(f, BERT, whatever=1), "whatever is 1, which is not known here"),
        ("mean", lambda f: edit(f, BERT, module_output_name="other"), "module_output_name is 'other'"),
        ("mean", lambda f: edit(f, ST, truncate_dim=8), "truncate_dim"),
        ("mean", lambda f: (f / "modules.json").unlink(), "no modules.json, which says how they go together"),
        ("mean", lambda f: edit(f, BERT, max_seq_length=1e30), r"max_seq_length 1e\+30; want tokens"),
        ("mean", lambda f: edit(f, BERT, max_seq_length=0), "max_seq_length 0; want tokens"),
        ("mean", lambda f: edit(f, BERT, query_length="7"), "query_length '7'; want tokens"),
        ("mean", lambda f: edit(f, BERT, modality_config=["a"]), "modality_config is"),
        ("mean", lambda f: edit(f, BERT, modality_config={"text": "forward"}), "modality_config is"),
        ("mean", lambda f: edit(f, ST, default_prompt_name=["a"]), "default_prompt_name is"),
        ("mean", lambda f: edit(f, ST, prompts={"query": "\ud800"}), "half of a surrogate pair"),
        ("mean, dense", lambda f: edit(f, "2_Dense/config.json", module_input_name=["a"]), "simply follow"),
        ("mean", lambda f: edit(f, "1_Pooling/config.json", pooling_mode=["mean", "max"]), "pools by"),
        ("mean", lambda f: edit(f, "1_Pooling/config.json", pooling_mode="null"), "pools by None"),
    ],
)  # fmt: skip
def test_what_decides_the_vectors_and_is_missing_or_unknown_is_refused(folder, chain, spoil, message):
    """A folder whose 1_Pooling was lost in a download was pooled by the mean, though its model was one of CLS."""
    here = folder(chain)
    assert same(here, TEXTS[:2]) is True
    spoil(here)
    with pytest.raises(CheckpointError, match=message):
        ours(here, TEXTS[:1])


def test_an_adapter_alone_and_one_beside_its_base(tmp_path, bad):
    """LoRA weights beside a base were passed over in silence; alone, the advice was to name a model folder."""
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "adapter_config.json").write_text("{}")
    backbone(tmp_path / "beside")
    (tmp_path / "beside" / "adapter_config.json").write_text("{}")
    for name, words in (("alone", ()), ("beside", ()), ("beside", ("--rerank", tmp_path / "alone"))):
        retriever = "bm25" if words else f"hf:{tmp_path / name}"
        assert "holds an adapter (adapter_config.json)" in bad("run", "-r", retriever, *words, "-d", "mini")
    assert "merge_and_unload" in bad("run", "-r", "colbertv2", "--checkpoint", tmp_path / "alone", "-d", "mini")


@pytest.mark.parametrize(
    ("config", "tokenizer"),
    [
        ({}, {}), ({"max_seq_length": 7}, {}), ({"max_seq_length": 7}, {"model_max_length": 5}),
        ({}, {"model_max_length": 9}), ({}, {"model_max_length": 10**30}), ({"max_seq_length": "null"}, {}),
        ({"max_seq_length": 20, "query_length": 6}, {}), ({"document_length": 6}, {}),
    ],
)  # fmt: skip
def test_where_a_text_is_cut(folder, config, tokenizer):
    """Where no length was named, ours were cut at 32 and 144 tokens, theirs at what the model has positions for."""
    here = folder()
    edit(here, BERT, **config)
    edit(here, "tokenizer_config.json", model_max_length=None)
    edit(here, "tokenizer_config.json", **tokenizer)
    assert same(here) is True


def test_no_length_at_all(tmp_path):
    """T5 has no positions: theirs cut nowhere, which no batch could bear; a length must be named."""
    here, _ = saved(tmp_path, lambda: Pooling(32, "mean"), kind="t5")
    edit(here, "tokenizer_config.json", model_max_length=None)
    with pytest.raises(CheckpointError, match=r"says nowhere how long a text may be.*max_seq_length"):
        ours(here, TEXTS[:1])
    edit(here, BERT, max_seq_length=20)
    assert same(here) is True


def test_an_old_name_of_the_settings(folder):
    """Of several files the library reads the first of its list that says anything, and merges none."""
    here = folder()
    (here / "sentence_distilbert_config.json").write_text('{"max_seq_length": 4}')
    assert same(here) is True
    (here / BERT).write_text("{}")
    assert same(here) is True
    assert layouts.read(here).says["query_length"] == 4


def test_vectors_that_are_normalised_twice(tmp_path):
    here, _ = saved(tmp_path, lambda: Pooling(32, "mean"), Normalize, Normalize)
    assert same(here) is True


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"similarity_fn_name": "cosine"}, "it compares by cosine"), ({"max_active_dims": 5}, "its max_active_dims cuts")],
)
def test_a_sparse_folder_that_says_more(tmp_path, settings, message):
    """Both were passed over, and the rankings were others."""
    backbone(tmp_path / "base")
    with quiet():
        tiny.masked_lm().save_pretrained(tmp_path / "base")
        modules = [MLMTransformer(str(tmp_path / "base"), max_seq_length=12), SpladePooling("max")]
        SparseEncoder(modules=modules, device="cpu").save(str(tmp_path / "st"), create_model_card=False)
    layouts.read(tmp_path / "st")
    edit(tmp_path / "st", ST, **settings)
    with pytest.raises(CheckpointError, match=message):
        layouts.read(tmp_path / "st")


CHOICES = {
    ST: {
        "prompts": [None, {}, {"query": "river "}, {"query": "river ", "document": ""}, {"document": "green "},
                    {"passage": "green "}, {"query": "", "document": "red ", "x": "trees "}, {"x": "trees "}],
        "default_prompt_name": [None, "null", "x", "query", ""],
        "similarity_fn_name": [None, "cosine", "dot", "null", "euclidean"],
        "truncate_dim": [None, None, None, "null", 4],
    },
    BERT: {
        "max_seq_length": [None, 5, 12, "null"],
        "do_lower_case": [None, False, True],
        "query_length": [None, None, 4],
        "document_length": [None, None, 9],
        "model_args": [None, None, {}, {"x": 1}],
        "unpad_inputs": [None, False],
    },
    "tokenizer_config.json": {"model_max_length": [None, 10, 10**30], "truncation_side": [None, "left"]},
    "1_Pooling/config.json": {
        "pooling_mode": ["mean", "cls", ["cls"], "max", None, "null"],
        "pooling_mode_cls_token": [None, True, False],
        "pooling_mode_mean_tokens": [None, None, True, False],
        "include_prompt": [True, None, False],
        "embedding_dimension": [32, 32, None],
        "word_embedding_dimension": [None, 32],
    },
    "2_Dense/config.json": {
        "activation_function": ["torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity", None,
                                "torch.nn.modules.activation.ReLU", "mine.ReLU"],
        "bias": [True, None, False],
        "module_output_name": [None, "null", "sentence_embedding", "other"],
    },
    "3_Normalize/config.json": {"module_input_name": [None, "sentence_embedding", "other"]},
}  # fmt: skip


@pytest.mark.parametrize("part", range(4))
def test_random_folders_are_read_alike_or_refused(chains, tmp_path, part):
    """Any mixture of the above: our vectors are sentence-transformers' to 1e-4, or there are none."""
    draw = random.Random(part)
    read = 0
    for number in range(30):
        name = draw.choice(list(CHAINS))
        here = shutil.copytree(chains[name], tmp_path / str(number))
        for file, keys in CHOICES.items():
            if not (here / file).parent.is_dir():
                continue
            wanted = [key for key in keys if draw.random() < 0.35]
            edit(here, file, **{key: draw.choice(keys[key]) for key in wanted})
            if draw.random() < 0.03 and (here / file).is_file():
                (here / file).unlink()
        read += same(here, TEXTS) is True
    assert read >= 5  # enough are not refused
