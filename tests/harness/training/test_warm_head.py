"""The stage `warm_head`: a head for an encoder without one, which stays as it is; then DupMAE on its own pooling."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import AutoModel

from harness.datasets.loader import MINI, resolve
from harness.models import hybrid
from harness.models.checkpoints import checkpoint, new_head
from harness.models.checkpoints.weights import quiet, tensors_only
from harness.models.layers.encoder import decoder_of
from harness.models.layers.families import mlm_head
from harness.retrievers.encoding.encode import TextEncoder
from harness.runtime.job import HarnessJob
from harness.training.stages.weigh import leaning
from tests.support import families, tokenizers
from tests.support.layouts import saved

LOOP = {"batch": 8, "length": 12, "log_every": 1}
STAGES = {
    "warm": {"kind": "warm_head", "steps": 12, **LOOP},
    "pretrain": {"kind": "pretrain", "steps": 2, **LOOP},
    "tune": {"kind": "finetune", "steps": 2, "batch": 4, "lexical": 6, "query_length": 10, "passage_length": 12},
}
PROMPTS = {"query": "what is ", "document": "fish "}


@pytest.fixture
def base(tmp_path):
    """A folder of sentence-transformers: mean pooling, cosine, both prompts, no head."""
    return saved(tmp_path, lambda: Pooling(32, "mean"), Normalize, prompts=PROMPTS)[0]


def write(folder, base, stages=STAGES):
    values = {
        "name": "own", "base": {"checkpoint": str(base)}, "stages": stages,
        "data": {"train": "mini", "corpora": [{"name": str(MINI), "documents": 60}]},
    }  # fmt: skip
    (folder / "own.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.mark.integration
@pytest.mark.parametrize("tied", [True, False])
def test_the_head_learns_and_the_encoder_stays(base, tmp_path, cli, tied):
    write(tmp_path, base, {"warm": STAGES["warm"] | {"tied": tied}})
    answer = cli("train", "-R", "own.yaml", "--threads", 1)
    assert answer.code == 0, answer.err
    left = tmp_path / "trained" / "own" / "warm"
    before, after = tensors_only(base / "model.safetensors"), tensors_only(left / "model.safetensors")
    assert all(torch.equal(after[f"bert.{name}"], value) for name, value in before.items() if "pooler" not in name)
    decoder = after.get("cls.predictions.decoder.weight")
    if tied:
        assert decoder is None  # it is the word embeddings
    else:
        assert not torch.equal(decoder, before["embeddings.word_embeddings.weight"])
    log = [json.loads(line) for line in (left / "metrics.jsonl").read_text().splitlines()]
    losses = [line["bow"] for line in log if "bow" in line]
    assert losses[-1] < losses[0]
    spec = hybrid.read(left)
    kept = (spec.pooling, spec.similarity, spec.query_prefix, spec.passage_prefix, spec.lexical)
    assert kept == ("mean", "cosine", "what is ", "fish ", 0)


@pytest.mark.integration
def test_pre_training_goes_on_from_the_vector_that_is_searched(base, tmp_path, cli):
    write(tmp_path, base)
    answer = cli("train", "-R", "own.yaml", "--threads", 1)
    assert answer.code == 0, answer.err
    for stage in ("pretrain", "tune"):
        spec = hybrid.read(tmp_path / "trained" / "own" / stage)
        assert (spec.pooling, spec.similarity, spec.query_prefix) == ("mean", "cosine", "what is ")
    assert (spec.dense, spec.lexical) == (32, 6)
    changed = cli("train", "-R", "own.yaml", "--threads", 1, "-O", "cls", "--set", "pretrain.pooling=cls")
    assert changed.code == 0, changed.err
    assert hybrid.read(tmp_path / "cls" / "pretrain").pooling == "cls"


@pytest.mark.integration
def test_a_calibrated_head_is_tuned_and_the_encoder_stays(base, tmp_path, cli):
    """From warm-up to weighing with a frozen encoder: its dense half is the base's, bit for bit."""
    tune = {**STAGES["tune"], "frozen": True, "learning_rate": 1e-2}
    calibrate = {"kind": "calibrate", "lexical": 6, "sample": 20, "collections": "mini", "idf": [0, 1], "above": [1, 2]}
    weigh = {"kind": "weigh", "collections": ["mini"], "factors": [0.25, 1, 4], "lean": "dense", "passage_length": 30}
    stages = {"warm": STAGES["warm"], "calibrate": calibrate, "tune": tune, "weigh": weigh}
    write(tmp_path, base, stages)
    answer = cli("train", "-R", "own.yaml", "--threads", 1)
    assert answer.code == 0, answer.err
    left = tmp_path / "trained" / "own"
    files = {name: tensors_only(left / name / "model.safetensors") for name in stages}
    body = tensors_only(base / "model.safetensors")
    for found in files.values():
        assert all(torch.equal(found[f"bert.{name}"], value) for name, value in body.items() if "pooler" not in name)
    changed = {
        (first, second): {name for name, value in files[first].items() if not torch.equal(files[second][name], value)}
        for first, second in itertools.pairwise(stages)
    }
    bias = {name for name in files["warm"] if name.endswith("predictions.bias")}
    assert changed["warm", "calibrate"] == bias
    assert changed["calibrate", "tune"] > bias
    assert not changed["tune", "weigh"]
    said = json.loads((left / "calibrate" / "manifest.json").read_text())
    assert (said["texts"], said["sample"]) == (60, 20)
    tried = {(row["idf"], row["above"]): row["NDCG@10 on mini"] for row in said["calibrated"]}
    assert tried.keys() == {(0, 1), (0, 2), (1, 1), (1, 2)}
    assert tried[said["idf"], said["above"]] == max(tried.values())
    # what it measured is what `harness run` finds of that half
    again = cli("run", "-r", "dupmae", "--checkpoint", left / "calibrate", "--dense", 0, "-d", "mini", "-m", "NDCG@10")
    assert f"{max(tried.values()):.4f}" in again.out
    specs = {name: hybrid.read(left / name) for name in stages}
    assert [specs[name].activation for name in stages] == ["none", *["log1p_relu"] * 3]
    assert [specs[name].passage_length for name in ("tune", "weigh")] == [12, 30]
    assert {spec.pooling for spec in specs.values()} == {"mean"}

    changes = ("calibrate.idf=[0]", "calibrate.above=[1]", "weigh.factors=null", "weigh.spread=0.5")
    more = [word for change in changes for word in ("--set", change)]
    again = cli("train", "-R", "own.yaml", "--threads", 1, "-O", "plain", *more)
    assert again.code == 0, again.err
    other = tensors_only(tmp_path / "plain" / "calibrate" / "model.safetensors")
    [name] = bias
    # lexical scores spread half as far as dense ones; the encoder is loaded anew, all queries are asked
    dataset = resolve("mini")[0]
    dataset.open(HarnessJob(tmp_path / "cache", 1))
    student = checkpoint.load(tmp_path / "plain" / "weigh", hybrid.read(tmp_path / "plain" / "weigh"))
    encoder = TextEncoder(student, torch.device("cpu"))
    documents = encoder.documents(list(dataset.documents()), lambda _count: None)
    queries = encoder.queries(dataset.queries)
    dense, lexical = queries.dense @ documents.dense.T.astype(np.float32), np.zeros((100, 300), np.float32)
    for number, (ids, weights) in enumerate(zip(documents.term_ids, documents.term_weights, strict=True)):
        lexical[:, number] = queries.lexical[:, ids] @ weights.astype(np.float32)
    spreads = [half.std(axis=1, ddof=1).mean() for half in (lexical, dense)]
    assert spreads[0] / spreads[1] == pytest.approx(0.5, rel=1e-2)
    moved = other[name] - files["warm"][name]
    torch.testing.assert_close(moved, torch.full_like(moved, moved[0].item()))  # the constant alone


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"lexical": 500}, r"calibrate.lexical is 500; the model has \d+ terms"),
        ({"lexical": 6, "length": 600}, "calibrate.length is 600; the model has positions for"),
        ({"lexical": 6, "idf": [0, 1]}, "several values of idf or above, and no collections to choose by"),
        ({"lexical": 6, "above": [0]}, "above.0: Input should be greater than 0"),
        ({"lexical": 6, "collections": ["nowhere"]}, "unknown dataset 'nowhere'"),
        ({"lexical": 0}, "lexical: Input should be greater than or equal to 1"),
        ({"lexical": 6, "corpora": ["nowhere"]}, "there is no corpus nowhere"),
    ],
)
def test_what_cannot_be_calibrated(stage, message, base, tmp_path, bad):
    write(tmp_path, base, {"warm": STAGES["warm"], "calibrate": {"kind": "calibrate", **stage}})
    assert re.search(message, bad("train", "-R", "own.yaml"))
    write(tmp_path, base, {"calibrate": {"kind": "calibrate", "lexical": 6}})
    assert "calibrate: the base has no masked-LM head; a stage warm_head makes one" in bad("train", "-R", "own.yaml")


def test_a_frozen_encoder_gets_no_projection(base, tmp_path, bad):
    write(tmp_path, base, {"warm": STAGES["warm"], "tune": {**STAGES["tune"], "frozen": True, "dense": 16}})
    message = "tune: frozen with dense 16; the model is 32 wide and has no projection, and a new one would stay as it"
    assert message in bad("train", "-R", "own.yaml")
    write(tmp_path, base, {"warm": STAGES["warm"], "tune": {**STAGES["tune"], "frozen": True, "lexical": 0}})
    assert "frozen with lexical 0: nothing is left to learn" in bad("train", "-R", "own.yaml")


def test_which_scale_is_taken_when_it_leans():
    """By hand: of four queries the best factor gains 0.4 in all over the first (error 0.1), over the third nothing."""
    best = np.array([1.0, 1.0, 0.5, 0.5])
    less, same = best - [0.4, 0, 0, 0], best - [0.1, -0.1, 0, 0]
    factors, scores = [0.5, 1, 2, 4], [[less], [best], [same], [best - 0.3]]
    # mean differences .1, 0, .3; standard errors of the differences: 0.2/2 = .1, .0816/2 = .04, 0
    assert leaning("dense", factors, scores, 1) == 0.5
    assert leaning("lexical", factors, scores, 1) == 2
    scores[0] = [best - 0.2]  # a loss on every query alike has no error
    assert leaning("dense", factors, scores, 1) == 1


def test_what_cannot_get_a_head(tmp_path, bad):
    families.save(tmp_path / "whole", "bert")
    write(tmp_path, tmp_path / "whole", {"warm": STAGES["warm"]})
    assert "warm: the base has a masked-LM head already; leave the stage out" in bad("train", "-R", "own.yaml")
    bare = saved(tmp_path / "bare", lambda: Pooling(32, "mean"))[0]
    write(tmp_path, bare, {"pretrain": STAGES["pretrain"]})
    message = bad("train", "-R", "own.yaml", "-O", "other")
    assert "has no masked-LM head, and pre-training begins with one" in message


@pytest.mark.parametrize("name", families.CONFIGS)
def test_a_new_head_begins_as_the_embeddings(name, tmp_path):
    """Its logits are those of act(state), normalised, times the words; of each family, tied and not."""
    lm = families.masked_lm(name, vocab_size=len(tokenizers.of_family(families.kind_of(name))))
    with quiet():
        lm.base_model.save_pretrained(tmp_path)
    tokenizers.of_family(families.kind_of(name)).save_pretrained(tmp_path)
    for tied in (True, False):
        model, _ = new_head.with_new_head(Path(tmp_path), tied)
        with quiet():
            body = AutoModel.from_pretrained(tmp_path)
        ids = torch.tensor([[2, 7, 9, 3]])
        assert torch.equal(model.base_model(ids)[0], body(ids)[0])
        decoder = decoder_of(mlm_head(model))[1]
        words = model.get_input_embeddings().weight
        assert torch.equal(decoder.weight, words)
        assert (decoder.weight is words) == (tied or "own head" in name)
        states = torch.randn(2, 5, 32)
        width = words.shape[1]
        cut = states[..., :width]
        activated = torch.nn.functional.gelu(cut)
        expected = torch.nn.functional.layer_norm(activated, (width,), eps=1e-12) @ words.T
        torch.testing.assert_close(mlm_head(model)(states), expected, rtol=1e-3, atol=1e-3)
