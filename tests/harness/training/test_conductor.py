"""`harness train`: every stage of a tiny recipe, resumed, found again, refused, and run by `harness run`."""

import csv
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import BertForMaskedLM

from harness.datasets.loader import MINI
from harness.models import hybrid
from harness.models.cross_encoder import teacher as cross_encoder
from harness.models.finetuning.task import FinetuneTask
from harness.reports.records import records
from harness.retrievers.errors import InputError
from harness.training.base_model import _tokenizer
from harness.training.card import seen
from harness.training.stage_folder import StageFolder, differences
from harness.training.stage_outputs import read_block
from harness.training.stages import score as score_stage
from tests.support.commands import run_process
from tests.support.recipes import STAGES
from tests.support.recipes import WHOLE as RECIPE

pytestmark = pytest.mark.integration


def arrays(path):
    with np.load(path) as found:
        return dict(found)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def recipe(tmp_path):
    def make(*stages, **changes):
        values = RECIPE | {"stages": {name: STAGES[name] for name in stages or STAGES}} | changes
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return str(path)

    return make


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a recipe that ran through all its stages in a process of its own, and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    answer = run_process("train", "--recipe", "tiny.yaml", "--threads", 1, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return folder, answer.stdout, answer.stderr


def test_every_stage_leaves_its_checkpoint_log_curves_and_manifest(whole):
    folder = whole[0] / "trained" / "tiny"
    assert {path.name for path in folder.iterdir()} == {".lock", "base", "results", "scores.csv", *STAGES}
    for name, stage in STAGES.items():
        facts = json.loads((folder / name / "manifest.json").read_text())
        assert (facts["kind"], facts["name"], facts["recipe"]) == (stage["kind"], name, "tiny")
        assert facts["decides"]["stage"]["kind"] == stage["kind"]
        assert {"torch", "accelerate", "transformers"} <= facts["packages"].keys()
        if "steps" in stage:
            lines = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
            assert [line["step"] for line in lines if "loss" in line] == list(range(2, stage["steps"] + 1, 2))
            assert (folder / name / "curves.png").stat().st_size > 5_000
            assert not (folder / name / "state.pt").exists()
    log = [json.loads(line) for line in (folder / "hard" / "metrics.jsonl").read_text().splitlines()]
    assert 0 < log[-1]["validation"]["MRR@10 on mini"] <= 1
    spread = json.loads((folder / "pretrain" / "metrics.jsonl").read_text().splitlines()[-1])["validation"]
    assert spread.keys() == {"cosine", "rank"}


def test_temperature_and_scale_are_set_once_and_kept(whole):
    folder = whole[0] / "trained" / "tiny"
    start, first, *later = (hybrid.read(folder / name) for name in ("in_batch", "weigh", "hard", "distil"))
    assert start.temperature > 0
    assert start.lexical_scale not in (0, 1)
    assert (start.dense, start.lexical, start.trained["stage"]) == (16, 16, "in_batch")
    for spec in (first, *later):  # what a table of the paper asks of a checkpoint
        assert spec.trained["pretraining"] == "CLS and OT decoding"
        assert len(spec.trained["pretrained_on"]) == len(spec.trained["finetuned_on"]) == 1
        assert spec.trained["finetuned_as"] == [16, 16]
    for spec in later:
        assert (spec.temperature, spec.lexical_scale) == (first.temperature, first.lexical_scale)


def test_the_halves_are_weighed_by_what_a_held_out_collection_says(whole, monkeypatch, cli):
    """The scale that `weigh` keeps is the best of its factors by `harness run` on that collection as well."""
    folder = whole[0] / "trained" / "tiny"
    facts = json.loads((folder / "weigh" / "manifest.json").read_text())
    rows, before, after = facts["weighed"], hybrid.read(folder / "in_batch"), hybrid.read(folder / "weigh")
    assert [row["factor"] for row in rows] == [1e-5, 0.01, 1, 64]
    assert len({row["mean"] for row in rows}) > 1
    top = [row for row in rows if row["mean"] == max(row["mean"] for row in rows)]
    best = next((row for row in top if row["factor"] == 1), top[0])  # of equals the one that changes the least
    assert after.lexical_scale == pytest.approx(before.lexical_scale * best["factor"])
    assert after.trained["weighed_on"] == ["mini"]
    weights = [load_file(folder / name / "model.safetensors") for name in ("in_batch", "weigh")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert "mini: weigh chooses by it, and it is scored on: the scores are not held out" in whole[2]
    monkeypatch.chdir(whole[0])
    answer = cli("run", "--retriever", "dupmae", "--checkpoint", folder / "weigh", "--dataset", "mini")
    assert f"{best['NDCG@10 on mini']:.4f}" in answer.out


def test_what_a_stage_saw_of_the_collections_of_records_is_told_for_its_card(whole, beir, cli):
    cli("run", "--retriever", "coordination", "--dataset", "mini", "--dataset", beir())
    made, stage = records.find(Path("results"))[0], whole[0] / "trained" / "tiny" / "weigh"
    assert len(made) == 2
    found = seen(str(whole[0] / "tiny.yaml"), [], stage, made)
    assert {name: one.kind for name, one in found.items()} == {"mini": "in domain", "tiny/test": "zero-shot"}
    with pytest.raises(InputError, match="was made by another recipe"):
        seen(str(whole[0] / "tiny.yaml"), ["in_batch.steps=7"], stage, made)
    shutil.copytree(stage, whole[0] / "elsewhere")
    with pytest.raises(InputError, match=r"has no stage that is .*elsewhere"):
        seen(str(whole[0] / "tiny.yaml"), [], whole[0] / "elsewhere", made)


def test_negatives_answer_no_query_and_the_teachers_scores_belong_to_them(whole):
    folder = whole[0] / "trained" / "tiny"
    scored = arrays(folder / "score" / "scores.npz")
    mined = arrays(folder / "bm25" / "negatives.npz")
    ids = [json.loads(line)["_id"] for line in (MINI / "corpus.jsonl").read_text().splitlines()]
    rows = [line.split("\t") for line in (MINI / "qrels" / "test.tsv").read_text().splitlines()[1:]]
    queries = [json.loads(line)["_id"] for line in (MINI / "queries.jsonl").read_text().splitlines()]
    for number, query in enumerate(queries):
        positive = {ids.index(doc) for q, doc, grade in rows if q == query and int(grade) >= 1}
        some = set(scored["rows"][scored["offsets"][number] : scored["offsets"][number + 1]])
        every = set(mined["rows"][mined["offsets"][number] : mined["offsets"][number + 1]])
        assert len(some) == 4
        assert some <= every
        assert len(every) >= 5
        assert not every & positive
        width = scored["score_offsets"][number + 1] - scored["score_offsets"][number]
        assert width == len(positive) + 4
    assert np.isfinite(scored["scores"]).all()


def test_scoring_goes_on_from_the_blocks_that_are_there(whole, tmp_path, cli, monkeypatch):
    """It began again at the first of 101 million pairs."""
    shutil.copytree(whole[0], tmp_path / "half")
    monkeypatch.chdir(tmp_path / "half")
    left = Path("trained/tiny/score")
    with np.load(left / "scores.npz") as file:
        wanted = dict(file)
    shutil.rmtree(left)
    shutil.rmtree("trained/tiny/distil")
    monkeypatch.setattr(score_stage, "_PAIRS", 60)
    asked = []

    def counting(module, queries, passages, rows, *rest):
        asked.append(len(rows.flat))
        if len(asked) == 4:
            raise RuntimeError("killed")
        return real(module, queries, passages, rows, *rest)

    real = cross_encoder.score
    monkeypatch.setattr(cross_encoder, "score", counting)
    train = ("train", "--recipe", "tiny.yaml", "--threads", 1, "--no-evaluate", "--set", "stages.distil=null")
    assert cli(*train).code == 70
    partial = left.with_name("score.partial")
    assert len([*partial.glob("block-*.npy")]) == 3
    answer = cli(*train)
    assert answer.code == 0, answer.err
    assert "score.partial is unfinished; it goes on from its last saved state" in answer.err
    with np.load(left / "scores.npz") as file:
        found = dict(file)
    assert sum(asked) - asked[3] == len(wanted["scores"])  # none twice but the block that failed
    for name in ("rows", "offsets", "score_offsets"):
        assert (found[name] == wanted[name]).all()
    np.testing.assert_allclose(found["scores"], wanted["scores"], rtol=1e-5, atol=1e-6)  # padded otherwise
    assert not [*left.glob("*block*")]


@pytest.mark.parametrize("content", [b"", b"no array", "short", "other"])
def test_a_block_of_scores_that_is_not_whole_is_scored_again(tmp_path, content):
    """One with too few scores was taken, and the stage behind it broke."""
    path = tmp_path / "block-0.npy"
    assert read_block(path, 3) is None
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, np.zeros(2 if content == "short" else 3, np.float32 if content == "short" else np.int64))
    assert read_block(path, 3) is None
    np.save(path, np.arange(3, dtype=np.float32))
    assert read_block(path, 3).tolist() == [0, 1, 2]


def test_the_scores_of_every_stage_stand_beside_bm25_with_a_paired_test(whole):
    folder = whole[0] / "trained" / "tiny"
    with (folder / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["system"] for row in rows] == ["bm25", "pretrain", "in_batch", "weigh", "hard", "distil"]
    assert rows[0]["NDCG@10"] == "0.6568"  # the README's BM25
    assert [row["against"] for row in rows] == ["", "", "pretrain", "in_batch", "weigh", "hard"]
    assert all(0 <= float(row["p"]) <= 1 for row in rows[2:])
    difference = float(rows[3]["NDCG@10"]) - float(rows[2]["NDCG@10"])
    assert float(rows[3]["difference in NDCG@10"]) == pytest.approx(difference, abs=2e-4)
    assert whole[1].splitlines()[2] == "| mini | bm25 | 0.7314 | 0.6568 |  |  |  |  |  |  |"


def test_what_is_finished_is_found_and_what_was_left_runs_as_any_checkpoint(whole, monkeypatch, cli):
    monkeypatch.chdir(whole[0])
    before = {path: path.stat().st_mtime_ns for path in (whole[0] / "trained").rglob("*.safetensors")}
    answer = cli("train", "--recipe", "tiny.yaml", "--threads", 1, "--no-evaluate")
    assert answer.code == 0, answer.err
    assert answer.err.count("found ") == len(STAGES)
    assert before == {path: path.stat().st_mtime_ns for path in (whole[0] / "trained").rglob("*.safetensors")}
    record = cli("run", "-r", "dupmae", "--checkpoint", "trained/tiny/distil", "-d", "mini")
    assert record.code == 0, record.err
    assert "dupmae (CLS:16, OT:16, checkpoint=distil)" in record.out
    teacher = cli("run", "-r", "dupmae", "--checkpoint", "trained/tiny/teacher", "-d", "mini")
    assert teacher.code == 2
    assert "is a cross-encoder" in teacher.err


def test_another_recipe_is_refused_and_nothing_is_overwritten(whole, bad, monkeypatch):
    monkeypatch.chdir(whole[0])
    before = {path: path.read_bytes() for path in (whole[0] / "trained").rglob("*") if path.is_file()}
    words = ("train", "--recipe", "tiny.yaml", "--set", "pretrain.steps=9", "--threads", 1)
    message = bad(*words, results=Path("nowhere"))  # there are records of the run above
    assert "trained/tiny/pretrain was made by another recipe" in message
    assert "stage.steps was 6, is 9" in message
    assert {path: path.read_bytes() for path in (whole[0] / "trained").rglob("*") if path.is_file()} == before


def test_killed_and_run_again_gives_the_weights_of_an_uninterrupted_run(whole, tmp_path, cli):
    """kill -9 within pre-training, and again within fine-tuning; then the same bytes as without."""
    stages = {name: STAGES[name] for name in ("pretrain", "in_batch")}
    values = RECIPE | {"stages": stages, "data": RECIPE["data"] | {"validate_on": None, "evaluate": []}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    words = [sys.executable, "-m", "harness", "train", "--recipe", "tiny.yaml", "--threads", "1"]
    for stage in ("pretrain", "in_batch"):
        log = tmp_path / "trained" / "tiny" / f"{stage}.partial" / "state.pt"
        process = subprocess.Popen(words, cwd=tmp_path, env=dict(os.environ), stderr=subprocess.DEVNULL)
        for _ in range(3000):
            if log.exists() or process.poll() is not None:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    answer = cli("train", "--recipe", "tiny.yaml", "--threads", 1)
    assert answer.code == 0, answer.err
    for name in stages:
        ours = load_file(tmp_path / "trained" / "tiny" / name / "model.safetensors")
        theirs = load_file(whole[0] / "trained" / "tiny" / name / "model.safetensors")
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name


def test_a_pretraining_seed_is_of_all_that_reads_no_query(whole, tmp_path, cli):
    """The pre-training of seed 42 to the bit, under seed 7; fine-tuning from it is seed 7's own."""
    stages = {name: STAGES[name] for name in ("pretrain", "in_batch")}
    values = RECIPE | {"stages": stages, "data": RECIPE["data"] | {"validate_on": None, "evaluate": []}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values | {"seed": 7, "pretraining_seed": 42}, sort_keys=False))
    answer = cli("train", "--recipe", "tiny.yaml", "--threads", 1)
    assert answer.code == 0, answer.err
    same = {}
    for name in stages:
        ours, theirs = (folder / "trained" / "tiny" / name for folder in (tmp_path, whole[0]))
        weights = [load_file(folder / "model.safetensors") for folder in (ours, theirs)]
        same[name] = all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
        assert hybrid.read(ours).trained["seed"] == json.loads((ours / "manifest.json").read_text())["decides"]["seed"]
    assert same == {"pretrain": True, "in_batch": False}
    assert [hybrid.read(tmp_path / "trained" / "tiny" / name).trained["seed"] for name in stages] == [42, 7]


@pytest.mark.process
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_that_is_asked_to_stop_saves_first(whole, tmp_path, cli, number, status):
    """SIGTERM before the first save lost all, and the message said that the same command would go on."""
    stages = {"pretrain": STAGES["pretrain"] | {"save_every": 500, "steps": 40}, "in_batch": STAGES["in_batch"]}
    values = RECIPE | {"stages": stages, "data": RECIPE["data"] | {"validate_on": None, "evaluate": []}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    words = [sys.executable, "-m", "harness", "train", "--recipe", "tiny.yaml", "--threads", "1"]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "trained" / "tiny" / "pretrain.partial"
    for _ in range(3000):
        if (folder / "metrics.jsonl").exists() or process.poll() is not None:
            break
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == status, said
    step = torch.load(folder / "state.pt", weights_only=True)["course"]["step"]
    assert 0 < step < 40
    assert said.endswith(f"stopping when this step is done and saved; once more stops at once\nsaved at step {step}; "
                         "the same command goes on from there\n")  # fmt: skip
    changes = ("--set", "pretrain.save_every=7", "--set", "pretrain.log_every=5", "--set", "in_batch.chunk=3")
    answer = cli("train", "--recipe", "tiny.yaml", "--threads", 1, *changes)
    assert answer.code == 0, answer.err
    assert "pretrain.partial is unfinished; it goes on from its last saved state" in answer.err
    log = (tmp_path / "trained" / "tiny" / "pretrain" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["step"] == 40
    found = cli("train", "--recipe", "tiny.yaml", "--threads", 1)  # with the settings of before
    assert found.err.count("found ") == 2
    manifest = json.loads((tmp_path / "trained" / "tiny" / "pretrain" / "manifest.json").read_text())
    assert manifest["aside"] == {"log_every": 5, "save_every": 7, "save_minutes": 10.0}
    assert "save_every" not in manifest["decides"]["stage"]


@pytest.mark.parametrize("evaluate", ["mine", "none"])
def test_a_signal_in_the_last_step_stops_behind_the_stage(tmp_path, cli, monkeypatch, evaluate):
    """It was swallowed: mining for hours, or the whole evaluation, came before the next step that would have asked."""
    stages = {name: STAGES[name] for name in ("in_batch", "mine")[: 2 if evaluate == "mine" else 1]}
    values = RECIPE | {"stages": stages, "data": RECIPE["data"] | {"validate_on": None}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    backward = FinetuneTask.backward
    calls = []

    def signalled(self, *arguments):
        calls.append(1)
        if len(calls) == STAGES["in_batch"]["steps"]:
            os.kill(os.getpid(), signal.SIGTERM)
        return backward(self, *arguments)

    monkeypatch.setattr(FinetuneTask, "backward", signalled)
    answer = cli("train", "--recipe", "tiny.yaml", "--threads", 1)
    assert answer.code == 143, answer.err
    assert answer.err.endswith(
        "wrote trained/tiny/in_batch\nin_batch is finished; the same command goes on from there\n"
    )
    assert not [*(tmp_path / "trained" / "tiny").glob("mine*"), *(tmp_path / "trained" / "tiny").glob("results")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_for_others_says_so_and_can_be_stopped(tmp_path, number):
    """With RANK and WORLD_SIZE left over from a job it waited without a word, and only SIGKILL ended it."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    code = (
        "import harness.runtime.processes as p, sys; p._QUIET = 0.1; from harness.cli import main; "
        "sys.argv = ['harness', 'train', '--recipe', 'tiny.yaml']; main()"
    )
    env = os.environ | {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    line = ""
    while process.poll() is None and "waits for" not in line:
        line = process.stderr.readline()
    assert line == "process 0 waits for the 1 others that WORLD_SIZE=2 stands for; 0.1 s so far\n"
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == -number


def test_several_processes_need_a_place_to_meet(recipe, bad, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert "MASTER_ADDR and MASTER_PORT do not say where" in bad("train", "--recipe", recipe("in_batch"))


def test_what_a_stage_left_damaged_is_named_with_what_to_do(whole, tmp_path, bad):
    shutil.copytree(whole[0] / "trained", tmp_path / "trained")
    shutil.copy(whole[0] / "tiny.yaml", tmp_path)
    tiny = tmp_path / "trained" / "tiny"
    for stage, broken in (
        ("distil", "score/scores.npz"),
        ("hard", "mine/negatives.npz"),
        ("in_batch", "pretrain/model.safetensors"),
    ):
        if (tiny / stage).exists():
            shutil.rmtree(tiny / stage)
        path = tiny / broken
        path.write_bytes(path.read_bytes()[:100])
        message = bad("train", "--recipe", "tiny.yaml", "--threads", 1)
        assert f"Remove trained/tiny/{path.parent.name}, and the same command makes it anew" in message
        shutil.copytree(whole[0] / "trained" / "tiny" / path.parent.name, path.parent, dirs_exist_ok=True)


def test_a_finished_stage_leaves_nothing_in_memory(tmp_path, cli, monkeypatch):
    """Four models and four optimizers were alive after four stages, on the device of the fifth."""
    stages = {"pretrain": STAGES["pretrain"], "in_batch": STAGES["in_batch"]}
    values = RECIPE | {"stages": stages, "data": RECIPE["data"] | {"validate_on": None, "evaluate": []}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    alive = []
    finish = StageFolder.finish

    def finished(self, facts):
        alive.append(there())
        return finish(self, facts)

    def there():
        gc.collect()
        kinds = [type(found) for found in gc.get_objects()]
        return [kinds.count(torch.optim.AdamW), kinds.count(BertForMaskedLM)]

    gc.unfreeze()
    before = there()
    monkeypatch.setattr(StageFolder, "finish", finished)
    assert cli("train", "--recipe", "tiny.yaml", "--threads", 1).code == 0
    assert alive[1:] == [before, before]  # behind the base


@pytest.mark.parametrize(
    ("error", "stage", "setting"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "in_batch", "in_batch.chunk=128 takes about half"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "pretrain",
            "pretrain.micro_batch=2 takes",
        ),
    ],
)
def test_an_out_of_memory_names_the_setting(tmp_path, bad, monkeypatch, error, stage, setting):
    stages = {"pretrain": STAGES["pretrain"], "in_batch": STAGES["in_batch"] | {"chunk": 256}}
    values = RECIPE | {"stages": {stage: stages[stage]}, "data": RECIPE["data"] | {"validate_on": None, "evaluate": []}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False))

    def refused(*_args, **_more):
        raise error

    monkeypatch.setattr("harness.models.training.loop.fit", refused)
    message = bad("train", "--recipe", "tiny.yaml", "--threads", 1)
    assert f"{stage}: there is no memory left on cpu with {stage}." in message
    assert f"--set {setting}" in message
    assert message.endswith("the stage then begins at its start.\n")

    def stopped(_task, _settings, folder, *_more):
        (folder / "state.pt").touch()
        raise error

    monkeypatch.setattr("harness.models.training.loop.fit", stopped)
    # what has saved nothing is begun with another setting
    message = bad("train", "--recipe", "tiny.yaml", "--threads", 1, "--set", setting.split()[0])
    if stage == "in_batch":
        assert "the stage then goes on from its last saved state" in message
    else:
        assert "remove trained/tiny/pretrain.partial first: the stage begins again at its start" in message
        message = bad("train", "--recipe", "tiny.yaml", "--threads", 1)
        assert "stage.micro_batch was 2, is 4" in message


def test_what_an_earlier_version_left_is_found(tmp_path):
    """Its keys were made of all settings, also of those that decide nothing; the chain of the stages holds."""
    old = {"stage": {"kind": "pretrain", "steps": 3, "save_every": 500}, "before": "b"}
    left = StageFolder(tmp_path / "one", old)
    left.start()
    left.finish({})
    second = {"stage": {"kind": "x", "chunk": 4}, "before": left.key}
    later = StageFolder(tmp_path / "two", second)
    later.start()
    later.finish({})
    now = old | {"stage": old["stage"] | {"save_every": 7, "save_minutes": 10.0}}
    one = StageFolder(tmp_path / "one", now, ("save_every", "save_minutes"))
    assert one.finished
    assert one.key == left.key
    assert StageFolder(tmp_path / "two", second | {"stage": {"kind": "x"}, "before": one.key}, ("chunk",)).finished
    with pytest.raises(InputError, match=r"stage\.steps was 3, is 4"):
        _ = StageFolder(tmp_path / "one", now | {"stage": {"kind": "pretrain", "steps": 4}}, ("save_every",)).finished


@pytest.mark.parametrize(
    ("stages", "changes", "part"),
    [
        (["pretrain"], ["pretrain.length=80"], "pretrain.length is 80; the model has positions for 64 tokens"),
        (["pretrain"], ["pretrain.micro_batch=3"], "pretrain: a batch of 8 is no multiple of micro-batches of 3"),
        (["pretrain"], ["data.corpora=[nowhere]"], "there is no corpus nowhere"),
        (["pretrain"], ["base.model.num_attention_heads=5"], "base.model does not make a BERT"),
        (["pretrain"], ["root=nowhere"], "root: there is no folder nowhere"),
        (["pretrain"], ["pretrain.batch=4000", "pretrain.micro_batch=4000"], "a batch of 4,000 was asked for"),
        (["in_batch"], ["in_batch.passage_length=99"], "in_batch.passage_length is 99; the model has positions for 64"),
        (["pretrain", "in_batch"], ["in_batch.passage_length=99", "pretrain.length=80"], "pretrain.length is 80; the"),
        (["mine", "teacher"], ["mine.retriever=bm25", "teacher.chunk=3"], "no multiple of 3 at once on 1 process"),
        (
            ["in_batch"],
            ["in_batch.batch=101"],
            "in_batch.batch is 101 queries, and there are 100 to learn from. Take a smaller one",
        ),
        (["in_batch"], ["in_batch.batch=1"], "so 2 at least"),
        (["bm25", "in_batch"], ["bm25.retriever=bm26"], "unknown retriever 'bm26'"),
        (["bm25", "in_batch"], ["in_batch.negatives=11"], "in_batch: 11 negatives of each query were asked for, of 10"),
        (["bm25", "teacher"], ["teacher.start_from=bm25"], "teacher.start_from is bm25, which leaves no encoder"),
        (["in_batch"], ["data.evaluate=[nope]"], "unknown dataset 'nope'"),
        (
            ["pretrain"],
            ["data.corpora=[nowhere/texts]", "data.sources.nowhere=https://example.org"],
            "The source of nowhere/texts: https://example.org.",
        ),
        (
            ["in_batch"],
            ["data.train=[nowhere/train]", "data.sources.nowhere=https://example.org"],
            "The source of nowhere/train: https://example.org.",
        ),
        (["in_batch"], ["data.against=[nope]"], "unknown retriever 'nope'"),
        (["in_batch"], ["name=../evil"], "name: '../evil' is not a plain name"),
        (["pretrain"], ["stages.nope=null"], "there is no stage nope to take out; there is pretrain"),
        (["pretrain"], ["base.model.num_hiden_layers=2"], "model: unknown num_hiden_layers; there is"),
        (["pretrain"], ["pretrain.steps=true"], "stages.pretrain: steps is true; it must be a number"),
        (["in_batch", "bm25", "hard"], ["hard.dense=8"], "hard.dense is 8; the stages before it have a projection to"),
        (["in_batch"], ["in_batch.dense=64"], "dense is 64; the model is 32 wide"),
        (["in_batch"], ["in_batch.dense=0", "in_batch.lexical=0"], "dense and lexical are both 0"),
        (["in_batch"], ["data.train=[nowhere]"], "unknown dataset 'nowhere'"),
        (
            ["bm25", "in_batch"],
            ["in_batch.negatives=6"],
            "in_batch: 6 negatives of each query were asked for; ",
        ),
        (["in_batch"], ["precision=fp16"], "precision fp16 needs a GPU"),
        (["in_batch"], ["in_batch.lexical=1000"], "in_batch.lexical is 1,000; the model has 400 terms"),
        (
            ["pretrain"],
            ["base.model.max_position_embeddings=5"],
            "positions for 5 tokens, and a stage needs 8",
        ),
        (["in_batch"], ["in_batch.epochs=.inf"], "stages.in_batch.epochs: Input should be a finite number"),
        (["in_batch"], ["in_batch.epochs=1e300"], "stages.in_batch.epochs: Input should be less than or equal to"),
        (
            ["pretrain"],
            ["pretrain.group_by_length=yes"],
            "group_by_length is true; it must be a number",
        ),
        (["in_batch"], ["seed=true"], "seed is true; it must be a number"),
        (["in_batch"], ["in_batch.epochs=1", "in_batch.batch=99", "in_batch.warmup=0.1"], "nothing would be learned"),
        (["in_batch"], ["in_batch.query_prefix=query: "], "a text with a colon stands in quotes, as in --set"),
        (["bm25", "hard"], ["bm25.similarity=cosine"], "bm25: retriever bm25: similarity: unknown"),
    ],
)
def test_bad_input_is_named_and_nothing_is_left(recipe, bad, stages, changes, part):
    if torch.cuda.is_available() and "fp16" in part:
        pytest.skip("there is a GPU")
    words = [word for change in changes for word in ("--set", change)]
    message = bad("train", "--recipe", recipe(*stages), "--threads", 2, *words)
    assert part in message
    assert not [path for path in Path("trained").rglob("*.safetensors") if path.parent.name != "base"]


def test_texts_too_short_to_learn_from_are_left_out_and_said(recipe, cli, tmp_path):
    (tmp_path / "few.txt").write_text("a\n" * 5 + "more words than one here\n" * 20)
    changes = ("--set", "data.corpora=[few.txt]", "--set", "pretrain.steps=1")
    answer = cli("train", "--recipe", recipe("pretrain"), *changes, "--threads", 2, "--no-evaluate")
    assert answer.code == 0, answer.err
    assert "few.txt: 5 texts of fewer than two tokens left out" in answer.err
    (tmp_path / "none.txt").write_text("a\n" * 5)
    answer = cli("train", "--recipe", recipe("pretrain"), "--set", "data.corpora=[none.txt]", "--output", "other")
    assert answer.code == 2
    assert "hold no text of two tokens or more" in answer.err


def test_a_loss_that_is_not_finite_stops_and_the_last_good_state_is_gone_on_with(recipe, cli, monkeypatch, tmp_path):
    """Two micro-batches a step: the ninth call is step 5's first; the state of step 3 is kept."""
    from harness.models.losses import pretraining as losses

    real, calls = losses.bag_of_words, []

    def broken(*args):
        calls.append(1)
        return real(*args) * (float("nan") if len(calls) == 9 else 1.0)

    words = ("train", "--recipe", recipe("pretrain"), "--threads", 1, "--no-evaluate")
    with monkeypatch.context() as patch:
        patch.setattr(losses, "bag_of_words", broken)
        answer = cli(*words)
    assert answer.code == 1
    assert "step 5: loss nan" in answer.err
    assert "of the tokenised corpus" in answer.err
    partial = tmp_path / "trained" / "tiny" / "pretrain.partial"
    assert torch.load(partial / "state.pt", weights_only=True)["course"]["step"] == 3
    assert not (tmp_path / "trained" / "tiny" / "pretrain").exists()
    assert cli(*words).code == 0
    assert (tmp_path / "trained" / "tiny" / "pretrain" / "model.safetensors").exists()


def test_one_training_at_a_time_in_a_folder(recipe, bad, tmp_path):
    from filelock import FileLock

    (tmp_path / "trained" / "tiny").mkdir(parents=True)
    with FileLock(tmp_path / "trained" / "tiny" / ".lock"):
        assert "another process is training into trained/tiny" in bad("train", "--recipe", recipe("pretrain"))
    (tmp_path / "file").write_text("")
    assert "--output file cannot be made a folder" in bad("train", "--recipe", recipe("pretrain"), "-O", "file")
    assert "names no folder of its own" in bad("train", "--recipe", recipe("pretrain"), "-O", "")


def test_a_stage_folder_that_is_none_is_left_alone(recipe, bad, tmp_path):
    (tmp_path / "trained" / "tiny" / "base").mkdir(parents=True)
    (tmp_path / "trained" / "tiny" / "base" / "mine.txt").write_text("precious")
    assert "is no stage of a training" in bad("train", "--recipe", recipe("pretrain"))
    assert (tmp_path / "trained" / "tiny" / "base" / "mine.txt").read_text() == "precious"


def test_a_vocabulary_is_the_same_every_time():
    texts = [json.loads(line)["text"] for line in (MINI / "corpus.jsonl").read_text().splitlines()]
    one, two = (_tokenizer(texts, 300) for _ in range(2))
    assert one.get_vocab() == two.get_vocab()
    assert sorted(one.get_vocab().values()) == list(range(300))
    assert one.tokenize("Zebra, zebra!")[0][0] == "z"  # lower case, in pieces
    ids = one("a river", "the sea")["input_ids"]
    assert one.convert_ids_to_tokens(ids).count("[SEP]") == 2


def test_signs_and_vowel_marks_inside_words_are_numbered_the_same_every_time():
    texts = [f"a{sign} b{sign}{sign} கா{sign}" for sign in "°™®±¥¢~ாுிी中,.$"] * 2
    first, *others = (_tokenizer(texts, 160).get_vocab() for _ in range(5))  # a hash map of 16 has many orders
    assert all(other == first for other in others)
    assert {"##°", "##ா"} <= set(first)
    assert not {"##,", "##中"} & set(first)  # words of their own, that follow nothing


def test_differences_are_named_by_their_place():
    old = {"stage": {"steps": 1, "same": 2}, "data": [1]}
    assert differences(old, {"stage": {"steps": 3, "same": 2}, "data": [1, 2], "seed": 5}) == [
        "stage.steps was 1, is 3",
        "data was [1], is [1, 2]",
        "seed was null, is 5",
    ]


def test_two_processes_train_as_one_does(tmp_path, cli):
    """`torchrun` on two gloo processes: every stage, without dropout. The logged losses are one process's to 1e-3.

    Both search at the end as well; rank 0 alone writes the table.

    (A step's losses and gradients are equal to 1e-5, see tests/models/training/test_distributed.py; over steps Adam
    lets rounding grow, since it divides each gradient by its size, however small. `accelerate launch --cpu` starts one
    process only.)
    """
    calm = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    base = RECIPE["base"] | {"model": RECIPE["base"]["model"] | calm}
    data = RECIPE["data"] | {"against": []}
    names = ["pretrain", "in_batch", "mine", "bm25", "teacher", "score", "distil"]
    stages = {name: dict(STAGES[name]) for name in names}
    stages["pretrain"]["micro_batch"] = 4
    values = RECIPE | {"base": base, "data": data, "stages": stages}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    port = free_port()
    train = ["train", "--recipe", "tiny.yaml", "--threads", "1", "--output"]
    launch = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port), "-m", "harness.cli"]
    both = subprocess.run(
        [sys.executable, "-m", *launch, *train, "two"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert both.returncode == 0, both.stderr
    assert both.stdout.count("| dataset | system |") == 1
    alone = cli(*train, "one", "--no-evaluate")
    assert alone.code == 0, alone.err
    assert both.stderr.count("wrote ") == alone.err.count("wrote ") == len(names)  # one process speaks
    for name in ("pretrain", "in_batch", "teacher", "distil"):
        logs = [(tmp_path / place / name / "metrics.jsonl").read_text().splitlines() for place in ("one", "two")]
        for one, two in zip(*(map(json.loads, log) for log in logs), strict=True):
            for key in {"loss", "mlm", "bow", "distillation", "contrastive", "tokens", "step"} & one.keys():
                assert two[key] == pytest.approx(one[key], rel=1e-3), f"{name}, step {one['step']}: {key}"
    one, two = (arrays(tmp_path / place / "mine" / "negatives.npz") for place in ("one", "two"))
    assert (two["offsets"] == one["offsets"]).all()
    depth = STAGES["mine"]["depth"]
    for ours, theirs in zip(one["rows"].reshape(-1, depth), two["rows"].reshape(-1, depth), strict=True):
        assert len({*ours} & {*theirs}) >= 0.7 * depth  # the weights are near, not equal
    with (tmp_path / "two" / "scores.csv").open() as file:
        assert [row["system"] for row in csv.DictReader(file)] == ["pretrain", "in_batch", "distil"]
    one, two = (arrays(tmp_path / place / "score" / "scores.npz") for place in ("one", "two"))
    np.testing.assert_allclose(two["scores"], one["scores"], rtol=1e-2, atol=1e-2)
    assert (two["rows"] == one["rows"]).all()
    assert json.loads((tmp_path / "two" / "distil" / "manifest.json").read_text())["processes"] == 2
