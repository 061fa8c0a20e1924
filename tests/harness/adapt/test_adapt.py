"""`harness adapt`: the plan, the recipe, the whole way at a tiny size, stops, and what cannot be adapted."""

import json
import re
from pathlib import Path

import pytest
import yaml
from accelerate.state import AcceleratorState
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import GPT2Config, GPT2LMHeadModel

from harness.adapt import plan, wish
from harness.adapt.command import licence
from harness.adapt.plan import Measured
from harness.adapt.wish import Steps, Wish
from harness.datasets.loader import MINI
from harness.models import hybrid
from harness.models.checkpoints.weights import quiet
from harness.retrievers.errors import InputError
from harness.training.recipe import Recipe
from tests.support import families, tiny, writers
from tests.support.layouts import saved

TEXTS = 100


@pytest.fixture(autouse=True)
def _anew():
    """What it trains in may be bf16, and an accelerator is a process's own."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    lines = (MINI / "corpus.jsonl").read_text(encoding="utf-8").splitlines()[:TEXTS]
    path.write_text("".join(json.dumps({"text": json.loads(line)["text"]}) + "\n" for line in lines))
    return path


@pytest.fixture
def base(tmp_path):
    """An embedding model without a head: mean pooling, cosine."""
    return saved(tmp_path, lambda: Pooling(32, "mean"), Normalize)[0]


def too_many_tokens(place):
    """A base without a head whose embedding table has fewer rows than its tokenizer has tokens."""
    tiny.masked_lm(vocab_size=50).bert.save_pretrained(place)
    tiny.tokenizer().save_pretrained(place)


def decoder_only(place):
    GPT2LMHeadModel(GPT2Config(vocab_size=95, n_embd=32, n_layer=1, n_head=2)).save_pretrained(place)


def asked(minutes=10.0, **changes):
    return Wish("base", ("texts",), Path("out"), minutes, **changes)


def test_steps_that_fit_into_the_shares_of_the_time():
    """600 seconds: 180 for the head, 90 for pre-training, 120 for fine-tuning, 90 for a writer of queries."""
    measured = Measured({"warm": 1.0, "pretrain": 0.09, "tune": 4.0}, 10_000, 128, (96, 256))
    assert plan.steps(asked(), measured) == Steps(180, 1_000, 30)
    # without pre-training and without anybody's queries nothing is fine-tuned, and the head has that share as well
    assert plan.steps(asked(pretrain=False), measured) == Steps(300, 0, 0)
    for queries in ({"pairs": ("mini",)}, {"queries": "my.txt"}, {"query_generator": "t5"}):
        assert plan.steps(asked(pretrain=False, **queries), measured) == Steps(180, 0, 30)
    with_head = Measured({"pretrain": 0.09, "tune": 4.0, "write": 0.5}, 10_000, 128, (96, 256))
    assert plan.steps(asked(), with_head) == Steps(0, 1_000, 30, 180)
    assert plan.steps(asked(6_000.0), with_head).write == 10_000  # each text once


@pytest.mark.parametrize(
    ("texts", "second", "steps"),
    [(640, 0.225, 400), (640, 0.23, 0), (10, 4.5, 20), (10, 4.6, 0), (10**6, 0.09, 1_000), (10**6, 0.1, 0)],
)
def test_pre_training_is_a_thousand_steps_or_ten_epochs_or_none(texts, second, steps):
    """Of 90 seconds: ten epochs of 640 texts are 400 steps, of 10 they are 6, and 20 are the least."""
    assert plan.pretraining(asked(), second, texts) == steps
    assert plan.pretraining(asked(pretrain=False), second, texts) == 0


def test_no_more_than_ten_epochs_of_few_texts():
    measured = Measured({"warm": 0.01, "pretrain": 0.01, "tune": 0.01}, 320, 128, (96, 256))
    assert plan.steps(asked(), measured) == Steps(200, 200, 200)


def test_pre_training_that_is_hardly_begun_is_left_out_and_too_little_time_is_said():
    slow = Measured({"warm": 1.0, "pretrain": 9.0, "tune": 4.0}, 10_000, 128, (96, 256))
    assert plan.steps(asked(), slow).pretrain == 0
    with pytest.raises(
        InputError,
        match=r"--minutes 1 is too little: 30% of it are for the stage warm, whose least, .* takes 0.33 .* Give 2 ",
    ):
        plan.steps(
            asked(1.0, pairs=("mini",)), Measured({"warm": 1.0, "pretrain": 1.0, "tune": 1.0}, 10_000, 128, (96, 256))
        )


def test_the_recipe_is_one_that_train_takes():
    values = wish.recipe(asked(pairs=("mini",), teacher="bm25"), Steps(30, 0, 40), 64, (96, 256))
    recipe = Recipe.model_validate(values)
    assert list(recipe.stages) == ["warm", "calibrate", "mine", "score", "tune", "weigh"]
    assert recipe.data.train == ("pairs", "mini")
    assert [one.retriever for one in recipe.stages["score"].teacher] == ["bm25"]
    assert recipe.stages["tune"].frozen  # without pre-training the encoder stays as it is
    assert (recipe.stages["tune"].passage_length, recipe.stages["weigh"].passage_length) == (64, 256)
    assert recipe.stages["tune"].query_length == 96  # else the frozen dense half would be another on long queries
    bare = Recipe.model_validate(wish.recipe(asked(), Steps(30, 0, 0), 64, (96, 256)))
    assert list(bare.stages) == ["warm", "calibrate", "weigh"]
    assert bare.data.train == ()
    assert list(bare.data.pseudo) == ["held_out"]
    plain = Recipe.model_validate(wish.recipe(asked(), Steps(0, 25, 40), 64, (96, 256)))
    assert list(plain.stages) == ["pretrain", "calibrate", "mine", "score", "tune", "weigh"]
    assert [(one.retriever, one.weight) for one in plain.stages["score"].teacher] == [("hf:base", 2), ("bm25", 1)]
    assert not plain.stages["tune"].frozen


def test_queries_of_ones_own_and_of_a_writer_are_learned_from():
    """Each within a round trip through the base; the held-out ones are all kept."""
    wanted = asked(queries="my.txt", query_generator="t5")
    recipe = Recipe.model_validate(wish.recipe(wanted, Steps(30, 0, 40, 75), 64, (96, 256), precision="bf16"))
    assert recipe.data.train == ("pairs", "asked", "written")
    made = recipe.data.pseudo
    assert (made["asked"].asked, made["written"].writer.model) == ("my.txt", "t5")
    assert made["written"].corpora[0].documents == 75
    trips = {name: one.round_trip for name, one in made.items()}
    assert trips.pop("held_out") is None
    assert {(trip.retriever, trip.within, trip.options["precision"]) for trip in trips.values()} == {
        ("hf:base", 20, "bf16")
    }
    assert "written" not in wish.recipe(wanted, Steps(30, 0, 40), 64, (96, 256))["data"]["pseudo"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("---\nlicense: apache-2.0\n---\nwords", "the base's licence is apache-2.0, by its README.md"),
        ("---\nlicense: other\nlicense_name: own-terms\n---\n", "the base's licence is own-terms"),
        ("---\nlanguage: en\n---\n", r"notice: the licence of .* is unknown"),
        ("no front matter", r"notice: the licence of .* is unknown"),
        ("---\n- a\n- list\n---\n", r"notice: the licence of .* is unknown"),
        ("---\nlicense: [\n---\n", r"notice: the licence of .* is unknown"),
        (None, r"notice: the licence of .* is unknown"),
    ],
)
def test_the_licence_of_a_base(text, part, tmp_path):
    if text is not None:
        (tmp_path / "README.md").write_text(text)
    assert re.match(part, licence(tmp_path))


@pytest.mark.integration
def test_from_an_embedding_model_to_a_hybrid(base, texts, tmp_path, cli, monkeypatch):
    """Once through; a second time all is found; other texts are refused."""
    monkeypatch.setattr(plan, "_MOST_EPOCHS", 1)
    (tmp_path / "my.txt").write_text("how do plants grow\nwhat is a river\n")
    with quiet():
        generator = writers.t5(tmp_path / "writer")
    command = ["adapt", "--base", base, "--corpus", texts, "-O", "out", "--minutes", 30, "--threads", 1]
    command += ["--queries", "my.txt", "--query-generator", generator]
    answer = cli(*command, "--evaluate", "mini")
    assert answer.code == 0, answer.err
    assert "measuring what a step takes on the first of 100 texts" in answer.err
    lines = answer.out.splitlines()
    systems = ["base", "bm25", "dense half, after", "lexical half, after", "hybrid", "base + bm25, weighted 2 : 1"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")][2:]
    assert [row[2] for row in rows] == systems * 2
    assert [row[0] for row in rows] == ["held-out pairs"] * 6 + ["mini"] * 6
    assert re.search(r"texts.jsonl: \d+ of 100 queries kept, by the round trip through hf:", answer.err)
    assert "notice: the licence of" in answer.err
    learned = hybrid.read(tmp_path / "out" / "weigh").trained["finetuned_on"]
    kinds = ("title, sentence, crop", "of my.txt", f"written by {generator}")
    assert [re.match(r"pseudo-queries \((.*)\)", one)[1] for one in learned] == list(kinds)
    assert lines[-1] == "harness run --retriever dupmae --checkpoint out/weigh --dataset COLLECTION"
    spec = hybrid.read(tmp_path / "out" / "weigh")
    assert (spec.pooling, spec.similarity, spec.dense, spec.lexical) == ("mean", "cosine", 32, families.SIZE)
    stages = yaml.safe_load((tmp_path / "out" / "adapt.yaml").read_text())["stages"]
    assert list(stages) == ["warm", "pretrain", "calibrate", "mine", "score", "tune", "weigh"]

    again = cli(*command, "--evaluate", "mini")
    assert again.code == 0, again.err
    assert "goes on with out/adapt.yaml" in again.err
    assert again.err.count("found out/") == len(stages)
    assert again.out == answer.out
    other = cli(*command[:7], "--minutes", 3)
    assert other.code == 2
    assert "out was made with minutes 30.0, not 3.0, queries 'my.txt', not None, query generator" in other.err


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (decoder_only, "is a 'gpt2' model, not a BERT-like encoder"),
        (too_many_tokens, "tokens, the embedding table has 50 rows. They do not belong together"),
        (
            lambda place: families.save(place, "bert"),
            "60 texts of 6 words or more, 60 in all. Adapting makes pairs of them and needs 64",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_adapted(make, part, texts, tmp_path, bad):
    with quiet():
        make(tmp_path / "base")
    if not (tmp_path / "base" / "tokenizer.json").exists():
        tiny.tokenizer().save_pretrained(tmp_path / "base")
    if part.startswith("60"):
        texts.write_text("\n".join(texts.read_text().splitlines()[:60]) + "\n")
    assert part in bad("adapt", "--base", tmp_path / "base", "--corpus", texts, "-O", "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_without_a_mask_token(base, texts, tmp_path, bad):
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        for path in base.rglob(name):
            values = json.loads(path.read_text())
            values.pop("mask_token", None)
            path.write_text(json.dumps(values))
    message = bad("adapt", "--base", base, "--corpus", texts, "-O", "out")
    assert "the tokenizer has no mask token; masking needs cls, sep, pad and mask. Name another --base." in message


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--teacher", "nobody"], "unknown retriever 'nobody'"),
        (["--pairs", "nothing"], "unknown dataset 'nothing'"),
        (["--evaluate", "nothing"], "unknown dataset 'nothing'"),
        (["--queries", "none.txt"], "--queries none.txt is not a file. Want one question a line"),
        (["--queries", "mini"], "--queries mini is not a file"),
        (["--queries", "blank.txt"], "--queries blank.txt holds no question"),
        (["--queries", "broken.jsonl"], "broken.jsonl, line 1: not JSON"),
        (["--minutes", "inf"], "--minutes is inf; want a number above 0"),
        (["--query-generator", "dupmae-mini"], "is a 'bert' model (BertForMaskedLM), which writes no text"),
    ],
)
def test_what_is_named_in_vain_is_said_before_anything_is_written(words, part, texts, tmp_path, bad):
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "broken.jsonl").write_text('{"text": \n')
    assert part in bad("adapt", "--base", "dupmae-mini", "--corpus", texts, "-O", "out", *words)
    assert not (tmp_path / "out").exists()


def test_where_nothing_can_be_written_into(base, texts, tmp_path, bad):
    (tmp_path / "file").write_text("x")
    assert "file" in bad("adapt", "--base", base, "--corpus", texts, "-O", "file")
    before = sorted(path.name for path in base.iterdir())
    assert "is the base itself. Name another folder." in bad("adapt", "--base", base, "--corpus", texts, "-O", base)
    assert sorted(path.name for path in base.iterdir()) == before


def test_a_plan_that_comes_to_nothing_leaves_nothing(base, tmp_path, bad):
    """Of 200 equal texts no query finds its own but by chance: that makes no batch."""
    (tmp_path / "same.txt").write_text("the very same eight words in each line\n" * 200)
    bad("adapt", "--base", base, "--corpus", "same.txt", "-O", "out", "--minutes", 30, "--threads", 1)
    assert not (tmp_path / "out").exists()


def test_texts_of_one_word(tmp_path, bad):
    (tmp_path / "one.txt").write_text("".join(f"word{number}\n" for number in range(100)))
    message = bad("adapt", "--base", "dupmae-mini", "--corpus", "one.txt", "-O", "out")
    assert "one.txt: 0 texts of 6 words or more, 100 in all. Adapting makes pairs of them and needs 64" in message


def test_what_must_be_given(bad, monkeypatch):
    assert "--corpus and --output not given. An example: harness adapt" in bad("adapt", "--base", "dupmae-mini")
    assert "there is no corpus nowhere" in bad("adapt", "--base", "dupmae-mini", "--corpus", "nowhere", "-O", "out")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "adapt is planned by one process" in bad("adapt", "--base", "x", "--corpus", "y", "-O", "out")
