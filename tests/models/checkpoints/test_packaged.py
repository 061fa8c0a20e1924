"""Models that are packed in the wheel: how they are found, what they say of themselves, and which cells they fill."""

import json

import pytest

from harness.models.checkpoints import hub, packaged
from harness.models.checkpoints.export_float16 import export_float16
from harness.models.errors import CheckpointError
from harness.reports.paper import rows
from harness.reports.paper.collections import COLLECTIONS
from harness.reports.paper.published import published
from harness.reports.tables import builder
from harness.retrievers.errors import InputError
from harness.retrievers.registry import available, get
from harness.retrievers.run_files import exchange, trec
from harness.runs.config import build
from harness.runs.runner import run
from tests.support import records as made
from tests.support import tiny
from tests.support.commands import run_process

pytestmark = pytest.mark.usefixtures("one_thread")
SAYS = {
    "recipe": "mini",
    "kind": "finetune",
    "stage": "hard_negatives",
    "negatives": 1,
    "pretraining": "CLS and OT decoding",
    "pretrained_on": ["enwiki"],
    "finetuned_on": ["squad/train"],
}


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """Random weights in the place of the packaged ones: H = 32, so that 16 + 16 is Table 3's half and half."""
    place = tmp_path / "packed"
    for name, halves, tasks in (
        ("dupmae-mini", (16, 16), "CLS and OT decoding"),
        ("retromae-mini", (32, 0), "CLS decoding"),
    ):
        said = SAYS | {"pretraining": tasks, "finetuned_as": list(halves)}
        tiny.save_hybrid(tmp_path / name, *halves, trained=said)
        export_float16(tmp_path / name, place / name)
        for file in (tmp_path / name).iterdir():
            file.unlink()
        (tmp_path / name).rmdir()
    monkeypatch.setattr(packaged, "FOLDER", place)
    return place


def go(tmp_path, folder, name, **options):
    config = {"retrievers": [{"name": name, "options": options}], "datasets": [str(folder)]}
    [outcome] = run(build({**config, "results": tmp_path / "results"}, "test"), ["test"])
    return outcome.record


def test_a_name_is_the_packaged_folder_wherever_a_checkpoint_is_named(packed, tmp_path, monkeypatch, cli, beir):
    monkeypatch.chdir(tmp_path)
    assert hub.locate("dupmae-mini") == packed / "dupmae-mini"
    assert cli("export", "retromae-mini", "st").code == 0
    folder = beir()
    by_default = go(tmp_path, folder, "dupmae")
    named = go(tmp_path, folder, "dupmae", checkpoint="dupmae-mini")
    own = go(tmp_path, folder, "dupmae-mini")
    hashes = {record.manifest.system.checkpoint_hash for record in (by_default, named, own)}
    assert hashes == {hub.content_hash(packed / "dupmae-mini")}
    assert {record.manifest.system.checkpoint for record in (by_default, named, own)} == {"dupmae-mini"}
    ran = [exchange.to_dict(trec.read(record.folder / "run.trec.gz")) for record in (by_default, named)]
    assert ran[0] == ran[1]
    assert own.metrics == by_default.metrics == go(tmp_path, folder, "hf:dupmae-mini").metrics


def test_a_recipe_may_start_from_one(packed, tmp_path):
    """With its head and its past, as from any checkpoint; one without a head says what it lacks."""
    from harness.models import hybrid
    from harness.training.base_model import prepare
    from harness.training.recipe import Base

    prepare(Base(checkpoint="dupmae-mini"), tmp_path / "base", (), 0)
    assert hybrid.read(tmp_path / "base").trained["pretrained_on"] == ["enwiki"]
    with pytest.raises(CheckpointError, match="no masked-LM head"):
        prepare(Base(checkpoint="retromae-mini"), tmp_path / "other", (), 0)


def test_a_folder_of_the_same_name_is_never_taken_in_silence(packed, tmp_path, monkeypatch, bad, beir):
    """Neither is taken for a name that was typed; ./NAME is the folder, and the catalog's own word the packaged one."""
    folder = beir()
    own = tiny.save_hybrid(tmp_path / "dupmae-mini", seed=5)
    monkeypatch.chdir(tmp_path)
    for words in (
        ("run", "-r", "dupmae", "--checkpoint", "dupmae-mini", "-d", folder),
        ("run", "-r", "hf:dupmae-mini", "-d", folder),
        ("export", "dupmae-mini", "st"),
        ("dissect", "--checkpoint", "dupmae-mini", "-d", folder),
    ):
        said = bad(*words)
        assert f"{own} has the same name. Write ./dupmae-mini" in said
    assert hub.locate("./dupmae-mini").resolve() == own
    assert go(tmp_path, folder, "dupmae").manifest.system.checkpoint_hash == hub.content_hash(packed / "dupmae-mini")


def test_a_name_is_never_asked_of_the_hub(tmp_path, monkeypatch, bad):
    """Somebody else may have a repository of that name."""
    monkeypatch.setattr(packaged, "FOLDER", tmp_path / "nothing")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    for words in (["-r", "dupmae"], ["-r", "retromae-mini"], ["-r", "dupmae", "--checkpoint", "dupmae-mini"]):
        assert "this installation lacks its weights" in bad("run", *words, "-d", "mini")
    assert "weights not installed" in get("dupmae").about().status


def test_the_default_says_once_what_it_is(packed, cli, beir):
    folder = beir()
    answer = cli("run", "-r", "dupmae", "-r", "coordination", "-d", folder, "-d", "mini", "-m", "NDCG@10")
    assert answer.code == 0, answer.err
    assert answer.err.count("note: no --checkpoint is named, so DupMAE runs as dupmae-mini") == 1
    assert "not comparable with the paper's. --checkpoint FOLDER_OR_HUB_ID names another" in answer.err
    assert "dupmae-mini" not in answer.out
    assert "note: no --ch" in cli("run", "-r", "dupmae", "-d", folder, "-m", "NDCG@10").err  # a run that is found, too
    for words in (["dupmae-mini"], ["retromae-mini"], ["dupmae", "--checkpoint", "dupmae-mini"]):
        assert "note:" not in cli("run", "-r", *words, "-d", folder).err


def test_the_default_of_one_half(packed, tmp_path, beir):
    """`--dense 0` and `--lexical 0` are the halves whose sum the hybrid is."""
    folder = beir()
    sizes = {
        name: (system.options["dense"], system.options["lexical"], system.variant)
        for name, options in (("both", {}), ("OT", {"dense": 0}), ("CLS", {"lexical": 0}))
        for system in [go(tmp_path, folder, "dupmae", **options).manifest.system]
    }
    assert sizes == {"both": (16, 16, "CLS:16, OT:16"), "OT": (0, 16, "OT:16"), "CLS": (16, 0, "CLS:16")}


def test_a_packaged_name_is_its_own_checkpoint(packed, tmp_path):
    """No other may run, and be recorded, under it; retromae-mini has no lexical half to ask for."""
    tiny.save_hybrid(tmp_path / "m")
    for name, instead in (("dupmae-mini", "dupmae"), ("retromae-mini", "retromae-finetune")):
        cls = get(name)
        with pytest.raises(InputError, match=f"is the packaged model itself.*Run that as {instead} or hf:"):
            cls(cls.Options(checkpoint=str(tmp_path / "m"))).check()
    cls = get("retromae-mini")
    with pytest.raises(CheckpointError, match="no masked-LM head"):
        _ = cls(cls.Options(lexical=8, device="cpu")).encoder


def test_what_the_list_says(packed, cli):
    """A document of 16 values and 16 terms takes 16 * 2 + 16 * 4 bytes; RetroMAE's is 32 values."""
    said = {name: available()[name].about() for name in ("dupmae", *packaged.NAMES)}
    assert [about.width for about in said.values()] == ["16 values + 16 terms"] * 2 + ["32 values"]
    assert [about.bytes_per_document for about in said.values()] == [96, 96, 64]
    assert {about.status for about in said.values()} == {"runnable"}
    for name in packaged.NAMES:
        said = cli("list", "retrievers", name).out
        assert "CC-BY-SA-4.0" in said
        assert "SQuAD and pseudo-queries of Wikipedia" in said


def test_a_candidate_stage_says_it_too(packed):
    cls = get("colbertv2")
    assert "runs as dupmae-mini" in cls(cls.Options(first_stage="dupmae")).notice
    assert cls(cls.Options()).notice == ""


# --- Tables 1 to 3

RUNS = [
    ("dupmae", {}),
    ("dupmae-mini", {}),
    ("retromae-mini", {}),
    ("dupmae", {"lexical": 0}),
    ("dupmae", {"dense": 0}),
    ("retromae-finetune", {"checkpoint": "retromae-mini"}),
    ("retromae", {"checkpoint": "retromae-mini"}),
    ("retromae-beir", {"checkpoint": "dupmae-mini"}),
    ("cls", {"checkpoint": "retromae-mini"}),
    ("condenser", {"checkpoint": "retromae-mini"}),
    ("cocondenser", {"checkpoint": "retromae-mini"}),
    ("simlm", {"checkpoint": "dupmae-mini"}),
    ("contriever", {"checkpoint": "retromae-mini"}),
    ("hf:dupmae-mini", {}),
]


@pytest.mark.parametrize(("name", "options"), RUNS)
def test_no_cell_of_a_table_is_ever_comparable(packed, tmp_path, monkeypatch, beir, name, options):
    """As if each had been run on every collection of the paper, with every document and to the digit printed there."""
    monkeypatch.chdir(tmp_path)
    system = go(tmp_path, beir(), name, **options).manifest.system
    for table in (1, 2, 3):
        filled = rows.rows_of(table, system)
        assert all(rows.against(table, row, system) for row in filled)
        printed = published(table)
        records = []
        for number, collection in enumerate(COLLECTIONS.values()):
            scores = {"MRR@10": 0.4, "NDCG@10": 0.4, "R@50": 0.8, "R@1000": 0.9, "R@100": 0.8}
            values = {metric: made.around(value, 0.05, 4) for metric, value in scores.items()}
            records.append(made.write(tmp_path / str(table) / str(number), system, made.data(collection), values))
        cells = builder.build(table, records).cells
        measured = [cell for cell in cells.values() if cell.measured is not None]
        assert {cell.system for cell in measured} == set(filled)
        assert {cell.status for cell in measured} <= {"not comparable"}
        assert len(printed.systems) * len(builder.claims.tests(printed)) <= len(cells)


def test_the_miniatures_do_fill_the_rows_that_the_test_above_is_about(packed, tmp_path, beir):
    """Else it could not fail: half and half of DupMAE, and RetroMAE's whole vector."""
    folder = beir()
    found = {name: go(tmp_path, folder, name).manifest.system for name in packaged.NAMES}
    assert [rows.rows_of(table, found["dupmae-mini"]) for table in (1, 2, 3)] == [
        ("DupMAE (stage 2)",),
        ("DupMAE",),
        ("CLS and OT decoding", "CLS:384, OT:384"),
    ]
    assert [rows.rows_of(table, found["retromae-mini"]) for table in (1, 2, 3)] == [("RetroMAE",)] * 3
    assert rows.against(1, "DupMAE (stage 2)", found["dupmae-mini"])[0].startswith("miniature model (2 layers, H 32")


@pytest.mark.parametrize("name", ["Condenser", "SimLM", "Contriever"])
def test_weights_of_another_pre_training_are_not_comparable_in_anybodys_row(name):
    """A claim of the catalog alone is comparable; the same claim over weights that name a pre-training is not."""
    claims = [(1, "Condenser"), (1, "SimLM"), (2, "Contriever")]
    assert rows.against(1, name, made.system(768, 0, tasks=None, name=name, claims=claims)) == []
    told = rows.against(1, name, made.system(768, 0, tasks="CLS decoding", name=name, claims=claims))
    assert told == ["other pre-training (CLS decoding)"]


@pytest.mark.process
def test_a_process_of_its_own_finds_them(tmp_path, beir):
    """Through the installed entry point, without the test's folder, and offline."""
    answer = run_process("run", "-r", "dupmae", "-d", beir(), "-m", "NDCG@10", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    system = json.loads(next(tmp_path.rglob("manifest.json")).read_text())["system"]
    assert system["checkpoint"] == "dupmae-mini"
