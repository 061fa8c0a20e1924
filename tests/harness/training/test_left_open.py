"""What a recipe leaves open: lengths, learning rates, micro-batches; the plan says them, keys are as when given."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.loader import MINI
from harness.models import hybrid
from harness.training import left_open, recipe_files
from harness.training.stages.pretrain import Pretrain

MODEL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
OPEN = {
    "pretrain": {"kind": "pretrain", "steps": 1, "batch": 48},
    "in_batch": {"kind": "finetune", "steps": 1, "batch": 4},
    "mine": {"kind": "mine", "retriever": "bm25", "least": 1, "depth": 2},
    "teacher": {"kind": "teacher", "start_from": "pretrain", "negatives": 1, "steps": 1, "batch": 2},
}
# what the paper's code has, by stage
USUAL = {
    "pretrain": {"length": 150, "micro_batch": 24, "learning_rate": 1e-4},
    "in_batch": {"query_length": 32, "passage_length": 144, "learning_rate": 2e-5},
    "teacher": {"length": 200, "learning_rate": 1e-5},
}


def write(folder, positions=512, **stages):
    values = {
        "name": "open",
        "base": {"vocabulary": 300, "model": MODEL | {"max_position_embeddings": positions}},
        "data": {"corpora": [str(MINI)], "train": ["mini"]},
        "stages": {name: OPEN[name] | stages.get(name, {}) for name in OPEN},
    }
    path = folder / "open.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def test_the_plan_prints_what_is_usual(tmp_path, cli):
    answer = cli("train", "-R", write(tmp_path), "--plan")
    stages = yaml.safe_load(answer.out)["stages"]
    assert {name: {key: stages[name][key] for key in usual} for name, usual in USUAL.items()} == USUAL


def test_a_length_is_cut_to_the_positions_and_that_is_said(tmp_path, cli):
    answer = cli("train", "-R", write(tmp_path, positions=148), "--plan")
    stages = yaml.safe_load(answer.out)["stages"]
    assert (stages["pretrain"]["length"], stages["in_batch"]["passage_length"]) == (148, 144)
    cut = "# pretrain.length is 148, the most that the base has positions for; 150 is usual\n"
    assert cut in answer.out
    assert "# teacher.length is 148" in answer.out
    assert "# in_batch" not in answer.out


def test_the_plan_of_a_checkpoint_reads_its_positions_and_fetches_none(tmp_path, cli):
    path = write(tmp_path, in_batch={"train": ["mini"]})
    base = ["base.model=null", "pretrain=null", "teacher.start_from=base"]
    changes = [part for change in ["stages.pretrain=null", *base[:1], base[2]] for part in ("--set", change)]
    plan = cli("train", "-R", path, *changes, "--set", "base.checkpoint=dupmae-mini", "--plan").out
    assert yaml.safe_load(plan)["stages"]["teacher"]["length"] == 160  # dupmae-mini's positions
    plan = cli("train", "-R", path, *changes, "--set", "base.checkpoint=someone/something", "--plan").out
    assert yaml.safe_load(plan)["stages"]["teacher"]["length"] == 200


def test_a_teacher_of_another_model_is_not_cut_to_the_bases_positions(tmp_path):
    recipe = recipe_files.load(write(tmp_path, 64, teacher={"start_from": "someone/deberta"}), [])
    assert left_open.settled(recipe, 64, 1).stages["teacher"].length == 200


@given(st.integers(1, 300), st.integers(1, 9))
def test_a_micro_batch_is_the_largest_divisor_of_the_share(share, processes):
    stage = Pretrain(kind="pretrain", steps=1, batch=share * processes)
    outlook = left_open.Outlook(None, (), processes=processes)
    found = stage.left_open(outlook)["micro_batch"]
    assert found <= 32
    assert share % found == 0
    assert not [better for better in range(found + 1, 33) if share % better == 0]


def test_a_batch_without_divisors_is_told(tmp_path, cli):
    answer = cli("train", "-R", write(tmp_path, pretrain={"batch": 37}), "--plan")
    assert "# pretrain.micro_batch is 1, the most up to 32 that a batch of 37 can be cut into" in answer.out
    assert "micro_batch is" not in cli("train", "-R", write(tmp_path), "--plan").out


def test_what_is_given_stays(tmp_path):
    given_ = {"length": 20, "micro_batch": 6, "learning_rate": 0.01}
    recipe = recipe_files.load(write(tmp_path, 64, pretrain=given_), [])
    stage = left_open.settled(recipe, 64, 1).stages["pretrain"]
    assert {name: getattr(stage, name) for name in given_} == given_


@pytest.mark.integration
def test_left_open_or_given_it_is_the_same_stage(tmp_path, cli, bad):
    """A recipe trained with settings left open is found by one that gives them, and by another number of processes."""
    answer = cli("train", "-R", write(tmp_path, 64), "-O", "made", "--threads", 1)
    assert answer.code == 0, answer.err
    assert "in_batch.passage_length is 64, the most that the base has positions for; 144 is usual" in answer.err
    assert hybrid.read(tmp_path / "made" / "in_batch").passage_length == 64
    usual = {
        name: values | {key: 64 for key in values if key in ("length", "passage_length")}
        for name, values in USUAL.items()
    }
    answer = cli("train", "-R", write(tmp_path, 64, **usual), "-O", "made", "--threads", 1)
    assert answer.code == 0, answer.err
    assert answer.err.count("found made/") == len(OPEN)
    assert "usual" not in answer.err

    recipe = recipe_files.load(write(tmp_path, 64), [])
    folders = {name: tmp_path / "made" / name for name in OPEN}
    assert left_open.settled(recipe, 64, 16).stages["pretrain"].micro_batch == 3
    assert left_open.settled(recipe, 64, 16, folders).stages["pretrain"].micro_batch == 24
    (tmp_path / "made" / "pretrain" / "manifest.json").write_text(json.dumps({"decides": 3}))
    assert left_open.settled(recipe, 64, 16, folders).stages["pretrain"].micro_batch == 3
    assert "made/pretrain is there and is no stage of a training" in bad("train", "-R", "open.yaml", "-O", "made")


@pytest.mark.integration
def test_texts_grouped_by_length_are_another_stage_and_train(tmp_path, cli, bad):
    path = write(tmp_path, 64, pretrain={"batch": 8, "micro_batch": 2, "steps": 4, "group_by_length": 3})
    only = [part for name in ("in_batch", "mine", "teacher") for part in ("--set", f"stages.{name}=null")]
    answer = cli("train", "-R", path, "-O", "made", "--threads", 1, *only)
    assert answer.code == 0, answer.err
    decides = json.loads((tmp_path / "made" / "pretrain" / "manifest.json").read_text())["decides"]
    assert decides["stage"]["group_by_length"] == 3
    message = bad("train", "-R", path, "-O", "made", *only, "--set", "pretrain.group_by_length=null")
    assert "stage.group_by_length was 3, is null" in message
