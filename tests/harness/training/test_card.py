"""A model's card: its facts are those of the training's and the runs' files, and what is missing is refused."""

import json
import re

import pytest
import yaml

from harness.models.checkpoints import hub
from harness.models.checkpoints.export_float16 import export_float16
from harness.reports.card import SECTIONS, read_words
from harness.reports.errors import RecordError
from harness.reports.records.exposure import IN_DOMAIN, ZERO_SHOT, Exposure
from harness.retrievers.errors import InputError
from harness.training import card
from harness.training.stage_folder import StageFolder
from tests.support import records as made
from tests.support import tiny
from tests.support.paths import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")
TRAINED = {"pretrained_on": ["wiki/a.jsonl, first 9"], "finetuned_on": ["squad/train"], "pretraining": "CLS decoding"}
WORDS = {
    "title": "tiny",
    "summary": "A toy.",
    "sources": {"wiki": "an encyclopaedia, CC BY-SA", "wiki/a": "its first part", "squad": "questions, CC BY-SA 4.0"},
    "limits": ["Knows nothing."],
    "licence": "CC-BY-SA-4.0",
}


def finished(path, before, **facts):
    """A stage's folder as training leaves it, with a random checkpoint in it."""
    kind = facts.pop("kind")
    stage = {"kind": kind, "steps": 7, "batch": 4, "clip": 0.5}
    place = StageFolder(path, {"stage": stage, "seed": 42, "before": before})
    tiny.save_hybrid(place.start(), trained=TRAINED)
    hardware = {"processor": "abacus", "threads": 3}
    about = {"recipe": "toy", "name": path.name, "kind": kind, "seconds": 90.0, "device": "cpu", "steps": 7}
    place.finish(about | {"hardware": hardware, "packages": {"torch": "9.9"}, "peak_memory_bytes": 2**30} | facts)
    return place


@pytest.fixture
def whole(tmp_path):
    """A base, a pre-training in a folder beside, and a fine-tuning; the latter in 16 bits; the words."""
    base = StageFolder(tmp_path / "t" / "base", {"base": {"model": 1}})
    tiny.save_hybrid(base.start())
    base.finish({})
    first = finished(tmp_path / "t" / "pretrain", base.key, kind="pretrain", texts=9)
    last = finished(tmp_path / "t" / "tune" / "in_batch", first.key, kind="finetune", queries=1234, seconds=3600.0)
    export_float16(last.path, tmp_path / "m")
    (tmp_path / "words.yaml").write_text(yaml.safe_dump(WORDS))
    return tmp_path


def record(whole, name, ours=True, mean=0.5):
    who = made.system(model={"layers": 2, "hidden": 32, "vocabulary": 90}) if ours else made.bm25()
    digest = hub.content_hash(whole / "m") if ours else "x"
    who = who.model_copy(update={"checkpoint_hash": digest, "retriever": "dupmae" if ours else "bm25"})
    where, _ = made.on(name, mean)
    where = where.model_copy(update={"name": name})
    values = {metric: made.around(mean) for metric in ("NDCG@10", "MRR@10")}
    return made.write(whole / "results" / name / ("o" if ours else "b") / "0", who, where, values)


def write(whole, records, **words):
    (whole / "words.yaml").write_text(yaml.safe_dump({**WORDS, **words}))
    seen = {
        "SciFact": Exposure(IN_DOMAIN, "it was trained on"),
        "NFCorpus": Exposure(ZERO_SHOT, "nothing of it was read"),
    }
    return card.make(whole / "m", whole / "t" / "tune" / "in_batch", read_words(whole / "words.yaml"), records, seen)


def test_what_it_says_is_what_the_files_say(whole):
    """90 s and 3,600 s are 3,690 s; 7 steps of 4 read 28 of 9 texts and of 1,234 queries; the longest source fits."""
    records = [record(whole, "NFCorpus", mean=0.25), record(whole, "SciFact"), record(whole, "SciFact", ours=False)]
    text = write(whole, records)
    assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == SECTIONS
    for wanted in (
        "license: cc-by-sa-4.0\n",
        "# tiny\n\nA toy.\n",
        "2 layers, H 32, V 90; a document is 16 values and 12 terms;".replace("90", str(len(tiny.tokenizer()))),
        f"`{hub.content_hash(whole / 'm')}`",
        "Pre-trained on `wiki/a.jsonl, first 9`: its first part\n",
        "Fine-tuned on `squad/train`: questions, CC BY-SA 4.0\n",
        "There for each stage, and read of it: pretrain: 9 texts, 28 read; in_batch: 1,234 queries, 28 read.",
        "| pretrain | pretrain | steps 7, batch 4, clip 0.5 | 7 |",
        "Seed 42, in every stage",
        "| in_batch | 3,600 | cpu, abacus, 3 threads | 1.0 |",
        "3,690 s in all (1.0 h)",
        "torch 9.9",
        "| SciFact | in domain | **tiny** | 0.5000 | 0.5000 |",
        "| SciFact | in domain | bm25 | 0.5000 | 0.5000 |",
        "| NFCorpus | zero-shot | **tiny** | 0.2500 | 0.2500 |",
        "- SciFact: in domain; it was trained on.\n- NFCorpus: zero-shot; nothing of it was read.\n",
        "- Knows nothing.",
        "the paper's 12 layers, H 768, V 30,522. In Tables 1 to 3 its cells are always `not comparable`.",
    ):
        assert wanted in text, wanted
    assert str(whole) not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"sources": {"wiki": "x"}}, "nothing says what squad/train is"),
        ({"limits": ["See /home/me/notes/x.txt."]}, "a path of this machine"),
        ({"licence": ""}, "licence: String should have at least 1 character"),
        ({"limits": []}, "limits: Tuple should have at least 1 item"),
        ({"author": "me"}, r"author: Extra inputs are not permitted.*It wants title, summary, sources"),
    ],
)
def test_words_that_do_not_do(whole, words, message):
    with pytest.raises(RecordError, match=message):
        write(whole, [record(whole, "SciFact")], **words)


def test_scores_are_of_these_weights(whole):
    with pytest.raises(RecordError, match="none of the 1 records is of these weights"):
        write(whole, [record(whole, "SciFact", ours=False)])


def test_the_stage_is_the_one_it_was_exported_from_and_all_before_it_are_there(whole):
    words, records = read_words(whole / "words.yaml"), [record(whole, "SciFact")]
    tiny.save_hybrid(whole / "other", seed=9)
    with pytest.raises(InputError, match=r"is not .*other, as it is or in 16 bits: .* differs"):
        card.make(whole / "m", whole / "other", words, records)
    with pytest.raises(InputError, match=r"has no hybrid\.json"):
        card.make(whole / "t", whole / "t" / "pretrain", words, records)
    (whole / "t" / "pretrain").rename(whole / "pretrain")
    with pytest.raises(InputError, match=r"the stage before in_batch \(key \w+\) is not beside it"):
        card.make(whole / "m", whole / "t" / "tune" / "in_batch", words, records)


def test_the_command(whole, cli, bad, monkeypatch):
    """With what training saw told by hand: tests/harness/training/test_conductor.py has it of a real training."""
    monkeypatch.setattr(card, "seen", lambda *_: {})
    where = ("card", "m", "--stage", "t/tune/in_batch", "--words", "words.yaml")
    assert "a card wants scores" in bad(*where)
    folder = record(whole, "SciFact").folder
    assert "gone.yaml is not a readable YAML file" in cli(*where[:-1], "gone.yaml", "--record", folder).err
    assert not (whole / "m" / "README.md").exists()
    before = hub.content_hash(whole / "m")
    answer = cli(*where, "--record", folder)
    assert (answer.code, answer.out, answer.err) == (0, "wrote m/README.md\n", "")
    text = (whole / "m" / "README.md").read_text()
    assert text.endswith("CC-BY-SA-4.0.\n")
    assert "| SciFact | not compared | **tiny** |" in text
    assert hub.content_hash(whole / "m") == before
    manifest = whole / "t" / "tune" / "in_batch" / "manifest.json"
    manifest.write_text(json.dumps([1]))
    assert "holds a list, not an object" in cli(*where, "--record", folder).err


@pytest.mark.parametrize(
    "path", sorted((ROOT / "harness" / "data" / "cards").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_words_of_the_packaged_models_are_whole(path):
    from harness.models.checkpoints.packaged import NAMES
    from harness.retrievers.neural.catalog import entries

    words = read_words(path)
    assert path.stem == words.title
    assert path.stem in NAMES
    assert words.licence == entries()[path.stem].licence
