"""`harness ablate`: the grid of Table 3, its stages shared, killed and resumed, its table and claims."""

import csv
import itertools
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import torch
import yaml
from scipy import stats
from typer.testing import CliRunner

from harness.ablation import grid, plan
from harness.cli import app
from harness.models import hybrid
from harness.models.pretraining.config import PretrainConfig
from harness.models.pretraining.mae import DupMAE, RetroMAE
from harness.models.pretraining.masking import Collator, Vocabulary
from harness.reports.ablation import one_collection
from harness.reports.ablation import rows as table3
from harness.reports.ablation.results import gather, seeds_of
from harness.reports.errors import RecordError
from harness.reports.paper.published import published
from harness.reports.records import records
from harness.retrievers.errors import InputError
from harness.training import recipe_files
from harness.training.stages.pretrain import Objective
from tests.support import tiny
from tests.support.datasets import write_beir
from tests.support.neural import go
from tests.support.recipes import RECIPE

pytestmark = pytest.mark.integration

HALF = "CLS8-OT8"  # of H = 16


def write(folder, **changes):
    """A collection that it takes words to search, and the recipe."""
    words = ["red", "green", "blue", "water", "river", "sea", "tree", "leaf", "stone", "sand", "bird", "fish"]
    pairs = list(itertools.combinations(words, 2))[:40]
    docs = [(f"d{n}", "", f"the {a} and the {b} of {words[n % 7]}") for n, (a, b) in enumerate(pairs)]
    queries = [(f"q{n}", f"where {a} meets {b}") for n, (a, b) in enumerate(pairs)]
    qrels = {
        "train": [(f"q{n}", f"d{n}", 1) for n in range(16)],
        "test": [(f"q{n}", f"d{n}", 1) for n in range(16, 40)],
    }
    write_beir(folder / "taught", docs, queries, qrels)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE | {"root": str(folder)} | changes, sort_keys=False))
    return path


def arms_of(name, hidden=768, output=Path("out"), seeds=1, changes=(), **options):
    return grid.arms(recipe_files.load(recipe_files.ablation(name), list(changes)), hidden, output, seeds, **options)


def test_widths_are_the_papers_and_scale():
    """32 * 384 + 47 * K <= 32 * 768 leaves 12,288 bits, 261 pairs of 47; printed 260. For H = 128: 2,048 bits, 43."""
    assert [table3.widths(name, 768) for name in table3.REPRESENTATIONS] == [(768, 0), (384, 384), (0, 768), (384, 260)]
    assert [table3.widths(name, 128) for name in table3.REPRESENTATIONS] == [(128, 0), (64, 64), (0, 128), (64, 42)]
    for hidden in range(8, 2049, 4):
        dense, kept = table3.widths("CLS:384, OT:260", hidden)
        most = (32 * hidden - 32 * dense) // 47
        assert max(1, most - 1) == kept
    assert table3.storage_equal(1024, 512) == 347  # 16,384 bits, 348.6 pairs
    assert [table3.label(*table3.widths(row.representation, 768)) for row in table3.ROWS] == [
        row.representation for row in table3.ROWS
    ]


def test_the_rows_are_those_printed_and_the_claims_hold_in_print():
    printed = published(3)
    assert [row.name for row in table3.ROWS] == list(printed.rows)
    for better, worse in table3.CLAIMS:
        column = "MS MARCO Dev MRR@10"
        assert printed.cell(better, column) > printed.cell(worse, column)


@pytest.mark.parametrize(("name", "before", "hidden"), [("small", 1, 128), ("msmarco", 2, 768)])
def test_three_pretrainings_and_seven_finetunings_make_eight_rows(name, before, hidden):
    """Stages once each: 3 pre-trainings (two stages each at the paper's scale), 7 times in-batch, mine, negatives."""
    found = arms_of(name, hidden)
    stages = plan.plan(found, None)
    assert len(found) == 7
    assert sorted(row for arm in found for row in arm.rows) == sorted(row.name for row in table3.ROWS)
    assert len(stages) == 3 * before + 7 * 3
    assert sum("pre-train, " in stage.what for stage in stages) == 3 * before
    for arm in found:
        last = arm.recipe.stages["hard_negatives"]
        [row, *_] = [row for row in table3.ROWS if row.name in arm.rows]
        assert (last.dense, last.lexical) == table3.widths(row.representation, hidden)
        assert last.negatives > 0
        configs = [s.objective.config() for s in arm.recipe.stages.values() if s.kind == "pretrain"]
        assert {config.tasks for config in configs} == {row.pretraining}
        assert arm.recipe.system == ("retromae-finetune" if row.name == "RetroMAE" else "dupmae")
    [whole] = [arm for arm in found if "CLS and OT decoding" in arm.rows]
    assert whole.rows == ("CLS and OT decoding", "CLS:384, OT:384")


def test_seeds_may_share_their_pretrainings():
    """Three pre-trainings for all seeds; what reads no query has the first seed, all behind it each its own."""
    one, shared = arms_of("small", 128), arms_of("small", 128, seeds=3, share_pretraining=True)
    stages = plan.plan(shared, None)
    assert len(shared) == 21
    assert len(stages) == 3 + 21 * 3
    assert {stage.place.parts[1] for stage in stages if "pre-train, " in stage.what} == {"seed-42"}
    assert [arm.folders | {"base": None} for arm in shared[:7]] == [arm.folders | {"base": None} for arm in one]
    assert {arm.folders["base"] for arm in shared} == {Path("out/seed-42/base")}
    for number, arm in enumerate(shared):
        seeds = {name: arm.recipe.seeded(name).seed for name in arm.recipe.stages}
        own = 42 + number // 7
        assert seeds == {"pretrain": 42, "in_batch": own, "mine": own, "hard_negatives": own}
        assert arm.recipe.seeded(None).seed == 42
        assert arm.output == Path(f"out/seed-{own}")


def test_cls_decoding_is_dupmae_without_the_bag_of_words():
    """Same weights, same batch: RetroMAE's losses and gradients equal DupMAE's with a bag-of-words weight of 0."""
    given = Objective(change={"bow_positions": "all_but_first"})
    found = {name: grid.objective(given, name).config() for name in table3.PRETRAININGS}
    assert [config.tasks for config in found.values()] == list(table3.PRETRAININGS)
    assert (found[table3.CLS].kind, found[table3.OT].reconstruction_weight) == ("RetroMAE", 0)
    assert found[table3.BOTH].bow_positions == found[table3.OT].bow_positions == "all_but_first"
    totals, grads = [], []
    for make, config in ((RetroMAE, found[table3.CLS]), (DupMAE, PretrainConfig.paper("DupMAE", bow_loss_weight=0.0))):
        assert config.tasks == "CLS decoding"
        model = tiny.masked_lm(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        torch.manual_seed(1)
        module = make(model, config)
        batch = Collator(Vocabulary.of(tiny.tokenizer()), config, 16, seed=5)([list(range(5, 17)), [7, 8, 9]], 0)
        loss = module(batch)
        loss.total.backward()
        totals.append(loss.total.item())
        grads.append({name: weight.grad for name, weight in module.named_parameters() if weight.grad is not None})
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-4, atol=1e-5)
    assert PretrainConfig.paper("RetroMAE", reconstruction_weight=0.0).tasks == "none"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An ablation killed (-9) within the hard negatives of its second arm, then run to the end with two seeds."""
    folder = tmp_path_factory.mktemp("ablation")
    write(folder)
    words = ["ablate", "-R", "tiny.yaml", "--threads", "1"]
    process = subprocess.Popen([sys.executable, "-m", "harness", *words], cwd=folder, stderr=subprocess.DEVNULL)
    for _ in range(12_000):
        if (folder / "ablations" / "tiny" / "seed-42" / f"cls.{HALF}" / "hard.partial").exists():
            break
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # a picture takes a third of a second, for each of 28 stages
        patch.setattr("harness.reports.plots.training_curves.draw", lambda *args: None)
        answer = CliRunner().invoke(app, [*words, "--seeds", "2"], catch_exceptions=False)
    assert answer.exit_code == 0, answer.stderr
    return folder, answer


def made(folder):
    every = records.find(folder / "ablations" / "tiny" / "results")[0]
    return [record for record in every if table3.rows_of(record)]


OTHERS = ["coordination level", "untrained base, CLS:16", "untrained base, CLS:16, OT:8"]


def test_what_was_done_before_the_kill_is_not_done_again(whole):
    """Of 2 * (3 + 7 * 3) = 48 stages those that were whole when it was killed are found, and each is written once."""
    folder, answer = whole
    wrote = [line for line in answer.stderr.splitlines() if line.startswith("wrote ablations")]
    assert len(wrote) == len(set(wrote))
    assert len({*wrote} & {"wrote ablations/tiny/seed-42/cls/pretrain"}) == 0
    manifests = sorted((folder / "ablations" / "tiny").glob("seed-*/*/*/manifest.json"))
    assert len(manifests) == 48
    before = {p for p in manifests if f"wrote {p.parent.relative_to(folder)}" not in wrote}
    assert {p.parent.relative_to(folder / "ablations/tiny/seed-42").parts[0] for p in before} == {
        *("cls", "cls.CLS16", f"cls.{HALF}")
    }
    assert "| seed-42/cls/pretrain | pre-train, CLS decoding, 3 steps of 8 | RetroMAE; CLS decoding only | done |" in (
        answer.stderr
    )
    assert not list((folder / "ablations").rglob("*.partial"))


def test_the_records_say_which_rows_they_are(whole):
    found = made(whole[0])
    assert len(found) == 14
    for record in found:
        system = record.manifest.system
        trained = hybrid.read(whole[0] / system.checkpoint).trained
        assert trained == system.trained == system.options["trained"]
        assert trained["pretraining"] in table3.PRETRAININGS
        assert (system.model["hidden"], system.stage) == (16, "hard")
        assert set(one_collection.SHOWN) <= set(record.metrics)
        assert system.options["titles"] == "space"  # as in training; the authors' RetroMAE has [SEP]
    rows = [row for record in found for row in table3.rows_of(record)]
    assert {row: rows.count(row) for row in rows} == {row.name: 2 for row in table3.ROWS}
    by_row = {row: record for record in found for row in table3.rows_of(record)}
    assert by_row["RetroMAE"].manifest.system.variant == "CLS:16"
    assert by_row["OT:768"].manifest.system.variant == "OT:16"
    assert by_row["CLS:384, OT:260"].manifest.system.variant == "CLS:8, OT:4"
    assert by_row["RetroMAE"].manifest.system.system == "RetroMAE"
    assert not by_row["CLS:768"].manifest.warnings or "no lexical half" not in str(by_row["CLS:768"].manifest.warnings)


def test_the_table_is_what_the_records_say(whole):
    folder, answer = whole
    found = made(folder)
    with (folder / "ablations/tiny/table3.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == (8 + len(OTHERS)) * 6
    assert [line["row"] for line in lines[8 * 6 :: 6]] == OTHERS
    # words that are shared find these documents, a model that has learnt nothing does not; each seed has its own
    words, untrained = (float(line["measured"]) for line in lines[8 * 6 :: 6][:2])
    assert words > 0.6 > untrained
    assert [len(line["by_seed"].split()) for line in lines[8 * 6 :: 6]] == [1, 2, 2]
    lines = lines[: 8 * 6]
    reference = [record for record in found if "CLS and OT decoding" in table3.rows_of(record)]
    for line in lines:
        mine = [record for record in found if line["row"] in table3.rows_of(record)]
        values = [record.metrics[line["metric"]] for record in mine]
        assert float(line["measured"]) == pytest.approx(statistics.fmean(values))
        assert float(line["sd"]) == pytest.approx(statistics.stdev(values))
        assert (line["seeds"], line["comparable"], line["queries"]) == ("42 43", "False", "24")
        whole_line = line["row"] in ("CLS and OT decoding", "CLS:384, OT:384")
        assert (line["p"] == "") == whole_line
        if not whole_line:
            ours, theirs = (
                [sum(r.per_query()[q][line["metric"]] for r in some) / 2 for q in found[0].per_query()]
                for some in (mine, reference)
            )
            assert float(line["difference"]) == pytest.approx(statistics.fmean(ours) - statistics.fmean(theirs))
            if ours != theirs:
                assert float(line["p"]) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    assert lines[0]["published"] == "0.3928"
    assert [line["published"] for line in lines if line["metric"] == "NDCG@10"] == [""] * 8
    assert {line["kind"] for line in lines} == {"in domain"}  # its corpus is the training collection's
    assert not (folder / "ablations/tiny/pooled.csv").exists()  # of one collection there is nothing to pool
    out = answer.stdout
    assert out.startswith("## taught/test\n")
    assert "Not comparable with what is published" in out
    assert "sample standard deviation (n - 1)" in out
    assert sum(line.startswith(f"| {row.name} | ") for row in table3.ROWS for line in out.splitlines()) == 8
    with (folder / "ablations/tiny/claims.csv").open() as file:
        claims = [line for line in csv.DictReader(file) if line["metric"] == "MRR@10"]
    assert [Decimal(line["published"]) > 0 for line in claims] == [True] * len(table3.CLAIMS)
    measured = {line["row"]: float(line["measured"]) for line in lines if line["metric"] == "MRR@10"}
    for line in claims:
        difference = measured[line["better"]] - measured[line["worse"]]
        assert float(line["measured"]) == pytest.approx(difference, abs=1e-12)
        assert line["holds"] == str(float(line["measured"]) > 0)
    holding = sum(line["holds"] == "True" for line in claims)
    assert f"{holding} of the paper's 10 orders by MRR@10 hold here" in out


def test_a_finished_ablation_is_found_planned_as_done_and_refused_to_another(whole, cli, bad, monkeypatch):
    folder, answer = whole
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.name in ("model.safetensors", "manifest.json")}
    tables = {name: (folder / "ablations/tiny" / name).read_bytes() for name in ("table3.csv", "claims.csv")}
    monkeypatch.chdir(folder)  # after `cli` went elsewhere
    words = ("ablate", "-R", "tiny.yaml", "-O", "ablations/tiny", "--threads", 1)
    plan = cli(*words, "--plan", "--seeds", 3)
    assert plan.out.count(" | done |\n") == 48
    assert plan.out.count(" | to do |\n") == 24
    assert plan.out.endswith("72 stages, 48 of them done\n")
    again = cli(*words, "--seeds", 2)
    assert again.code == 0, again.err
    assert "wrote " not in again.err
    assert again.out == answer.stdout
    assert {name: (folder / "ablations/tiny" / name).read_bytes() for name in tables} == tables
    assert {p: p.stat().st_mtime_ns for p in before} == before
    one = cli(*words)  # of two seeds, the first alone
    assert "H = 16, seed 42. In domain" in one.out
    assert "±" not in one.out
    # two seeds that share their pre-trainings want the second's anew, since those here are its own
    message = bad(*words, "--plan", "--seeds", 2, "--share-pretraining")
    assert "seed-43/cls.CLS16/in_batch was made by another recipe" in message
    (folder / "ablations/tiny/seed-43").rename(folder / "seed-43")
    shared = cli(*words, "--plan", "--seeds", 2, "--share-pretraining")
    (folder / "seed-43").rename(folder / "ablations/tiny/seed-43")
    assert shared.out.count(" | done |\n") == 24
    assert shared.out.endswith("45 stages, 24 of them done\n")
    for extra in ((), ("--plan",)):
        message = bad(*words, "--set", "pretrain.steps=9", *extra)
        assert "seed-42/cls/pretrain was made by another recipe" in message
        assert "stage.steps was 3, is 9" in message


def test_a_row_is_told_by_the_manifest_alone(whole):
    found = made(whole[0])
    [record] = [r for r in found if table3.rows_of(r) == ("RetroMAE",) and seeds_of([r]) == (42,)]

    def changed(trained=(), model=(), **options):
        manifest, system = record.manifest, record.manifest.system
        facts = {"trained": trained, "model": model, "options": options}
        system = system.model_copy(update={name: getattr(system, name) | dict(new) for name, new in facts.items()})
        return replace(record, manifest=manifest.model_copy(update={"system": system}))

    assert table3.rows_of(changed(trained={"pretraining": table3.BOTH})) == ("CLS:768",)
    assert table3.rows_of(changed(dense=8, lexical=8)) == ("CLS decoding only",)
    for other in ({"pretraining": "none"}, {"negatives": 0}, {"distil": True}, {"kind": "pretrain"}):
        assert table3.rows_of(changed(trained=other)) == ()
    assert table3.rows_of(changed(model={"hidden": 32})) == table3.rows_of(changed(dense=12)) == ()
    with pytest.raises(RecordError, match="makes it no row of Table 3"):
        gather([changed(dense=12)])
    with pytest.raises(RecordError, match=r"no record for RetroMAE\. Run the ablation to its end"):
        gather([r for r in found if r is not record and seeds_of([r]) == (42,)])
    with pytest.raises(RecordError, match=r"RetroMAE want one record for each of the seeds \[42, 43\]"):
        gather([r for r in found if r is not record])
    one = [r for r in found if seeds_of([r]) == (42,)]
    with pytest.raises(RecordError, match="want one record for each"):
        gather([*one, record])
    [alone] = gather(one)
    assert alone.rows["RetroMAE"].sd("MRR@10") is None
    assert alone.rows["RetroMAE"].per_query("MRR@10") == {q: v["MRR@10"] for q, v in record.per_query().items()}


def test_a_row_of_the_paper_is_not_claimed_by_another_pretraining(tmp_path, beir):
    for number, (task, claims) in enumerate((("CLS decoding", True), ("CLS and OT decoding", False))):
        model = tiny.save_hybrid(tmp_path / str(number), 32, 0, trained={"stage": "hard", "pretraining": task})
        record = go(tmp_path, beir(), "retromae-finetune", checkpoint=str(model))
        assert bool(record.manifest.system.paper_rows) == claims


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (["stages.pretrain=null"], "the recipe tiny has no pre-training before them"),
        (["hard.negatives=0"], "has no fine-tuning on mined negatives"),
        (["data.evaluate=[]"], "names no collection in data.evaluate"),
        (["pretrain.objective.change.bow_loss_weight=0"], "which leaves no OT decoding to pre-train"),
        (["pretrain.objective.change.reconstruction_weight=0"], "which leaves no CLS decoding to pre-train"),
        (["data.evaluate=[nope]"], "unknown dataset 'nope'"),
        (["hard.batch=99"], "hard.batch is 99 queries, and there are 16 to learn from. Take a smaller one"),
        (["pretrain.length=80"], "pretrain.length is 80; the model has positions for 64 tokens"),
        (["base.model=null", "base.checkpoint=./nowhere"], "the checkpoint ./nowhere is not a folder"),
    ],
)
def test_bad_input_is_named_before_a_stage_begins(tmp_path, bad, changes, part):
    write(tmp_path)
    words = [word for change in changes for word in ("--set", change)]
    assert part in bad("ablate", "-R", "tiny.yaml", "--threads", 1, *words)
    assert not [path for path in Path("ablations").rglob("*.safetensors") if path.parent.name != "base"]


def test_bad_words_on_the_command_line(tmp_path, bad):
    write(tmp_path)
    assert "there is: mini, msmarco, small" in bad("ablate")
    assert "unknown recipe 'smal'" in bad("ablate", "-R", "smal")
    assert "names no folder of its own" in bad("ablate", "-R", "tiny.yaml", "-O", "")
    late = {"first": RECIPE["stages"]["in_batch"], **RECIPE["stages"]}
    write(tmp_path, stages=late)
    assert "pre-trains after fine-tuning" in bad("ablate", "-R", "tiny.yaml")


def test_the_plan_is_shown_without_data_or_checkpoint_and_makes_nothing(cli, monkeypatch, tmp_path):
    """Nothing is at hand: 768 is then the recipe's own 384 + 384."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    answer = cli("ablate", "-R", "msmarco", "--plan", "--set", "base.checkpoint=nobody/nothing")
    assert answer.code == 0, answer.err
    assert answer.out.count("| to do |") == 27
    assert "fine-tune CLS:384, OT:260, 15 hard negatives, 4 epochs of 128 | CLS:384, OT:260 |" in answer.out
    assert not (tmp_path / "ablations").exists()
    with pytest.raises(InputError, match="has no fine-tuning on mined negatives"):
        arms_of("dupmae-beir", changes=["hard_negatives.negatives=0"])
