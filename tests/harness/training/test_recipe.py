"""Recipes: the shipped ones, `--set`, `extends`, and every mistake at once."""

import pytest
import yaml

from harness.retrievers.errors import InputError
from harness.training import recipe_files
from harness.training.recipe import Recipe
from harness.training.stages.finetune import Finetune
from harness.training.stages.pretrain import Pretrain
from harness.training.stages.teacher import Teacher

SMALL = {
    "base": {"model": {"hidden_size": 32}},
    "data": {"corpora": ["a.txt"], "train": ["mini"]},
    "stages": {
        "pretrain": {
            "kind": "pretrain", "steps": 2, "batch": 4, "micro_batch": 2, "length": 16, "learning_rate": "1e-3",
        },
        "tune": {"kind": "finetune", "epochs": 1, "batch": 4, "learning_rate": 0.001},
    },
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def make(values, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return str(path)

    return make


def test_the_papers_recipe_has_the_issues_and_the_codes_numbers():
    recipe = recipe_files.load("dupmae-msmarco", [])
    kinds = {name: stage.kind for name, stage in recipe.stages.items()}
    assert list(kinds) == [
        "general", "pretrain", "in_batch", "mine", "hard_negatives", "mine_again", "teacher", "score", "distil",
    ]  # fmt: skip
    general, pretrain, hard = (recipe.stages[name] for name in ("general", "pretrain", "hard_negatives"))
    assert isinstance(general, Pretrain)
    assert isinstance(pretrain, Pretrain)
    assert isinstance(hard, Finetune)
    assert (general.learning_rate, general.epochs, general.batch, general.length) == (1e-4, 8, 32 * 8, 512)
    assert (pretrain.learning_rate, pretrain.epochs, pretrain.batch, pretrain.length) == (1e-4, 20, 128 * 8, 150)
    assert (pretrain.warmup, pretrain.weight_decay) == (0.1, 0.01)
    assert (hard.learning_rate, hard.epochs, hard.batch, hard.negatives) == (2e-5, 4, 16 * 8, 15)
    assert (hard.query_length, hard.passage_length) == (32, 140)
    teacher = recipe.stages["teacher"]
    assert isinstance(teacher, Teacher)
    # 502,939 training queries: the code's 1,000 steps of warm-up are this share of the steps
    assert teacher.warmup == pytest.approx(1000 / (4 * (502_939 // 16)), abs=1e-4)


def test_variants_differ_from_their_parent_where_they_say():
    beir = recipe_files.load("dupmae-beir", [])
    assert list(beir.stages) == ["general", "mine", "hard_negatives"]
    hard = beir.stages["hard_negatives"]
    assert isinstance(hard, Finetune)
    assert (hard.learning_rate, hard.epochs, hard.batch, hard.negatives) == (1e-5, 10, 128 * 8, 1)
    assert (hard.query_length, hard.passage_length) == (32, 144)
    retro = recipe_files.load("retromae-msmarco", [])
    first = retro.stages["in_batch"]
    assert isinstance(first, Finetune)
    assert (first.dense, first.lexical, retro.system) == (768, 0, "retromae")
    assert retro.stages["pretrain"].objective.config().kind == "RetroMAE"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", recipe_files.names())
def test_every_shipped_recipe_is_sound_and_goes_through_yaml(name):
    recipe = recipe_files.load(name, [])
    assert recipe.name == name
    again = Recipe.model_validate(yaml.safe_load(recipe_files.as_yaml(recipe)))
    assert again.model_dump() == recipe.model_dump()


def test_set_changes_a_value_wherever_it_is(write):
    path = write(SMALL)
    recipe = recipe_files.load(path, ["pretrain.steps=500", "stages.tune.steps=7", "seed=3", "data.train=[mini, x]"])
    assert recipe.stages["pretrain"].steps == 500
    assert (recipe.stages["tune"].steps, recipe.stages["tune"].epochs) == (7, None)  # the one replaces the other
    assert (recipe.seed, recipe.data.train) == (3, ("mini", "x"))
    assert list(recipe_files.load(path, ["stages.pretrain=null"]).stages) == ["tune"]
    changed = recipe_files.load(path, ["pretrain.objective.change.bow_loss_weight=0.5"])
    assert changed.stages["pretrain"].objective.config().bow_loss_weight == 0.5


def test_set_changes_one_of_two_stages_that_an_alias_makes_alike(tmp_path):
    (tmp_path / "twice.yaml").write_text(
        "base: {model: {hidden_size: 32}}\ndata: {corpora: [a.txt]}\nstages:\n"
        "  one: &same {kind: pretrain, steps: 2, batch: 4, micro_batch: 2, length: 16, learning_rate: 1e-3}\n"
        "  two: *same\n"
    )
    recipe = recipe_files.load(str(tmp_path / "twice.yaml"), ["one.steps=5", "one.objective.kind=RetroMAE"])
    assert [stage.steps for stage in recipe.stages.values()] == [5, 2]
    assert [stage.objective.kind for stage in recipe.stages.values()] == ["RetroMAE", "DupMAE"]


def test_an_alias_inside_what_it_names(tmp_path):
    (tmp_path / "round.yaml").write_text("base: {model: {hidden_size: 32}}\nstages: &all {one: *all}\n")
    with pytest.raises(InputError, match=r"round\.yaml holds itself"):
        recipe_files.load(str(tmp_path / "round.yaml"), [])


def test_a_name_that_means_something_else(write):
    values = SMALL | {"stages": {"seed": SMALL["stages"]["pretrain"], "a b": SMALL["stages"]["pretrain"]}}
    with pytest.raises(InputError) as caught:
        recipe_files.load(write(values), [])
    assert "stages.seed: not a name for a stage, since it means something else already" in str(caught.value)
    assert "stages.a b: not a name for a stage; take letters, digits, - and _" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([], "fine-tune, in-batch, 1 epoch of 4"),
        (["tune.steps=1", "tune.dense=8"], "fine-tune, in-batch, 1 step of 4"),  # K is the checkpoint's
        (["tune.steps=2000", "tune.dense=8", "tune.lexical=4"], "fine-tune CLS:8, OT:4, in-batch, 2,000 steps of 4"),
        (["tune.epochs=0.5", "tune.train=[x, y]"], "fine-tune, in-batch on x, y, 0.5 epochs of 4"),
    ],
)
def test_a_fine_tuning_in_words(write, changes, words):
    assert recipe_files.load(write(SMALL), changes).stages["tune"].words() == words


def test_null_is_what_is_not_given_and_one_name_is_a_list(write):
    values = yaml.safe_load(yaml.safe_dump(SMALL))
    values["stages"]["tune"] |= {"learning_rate": None, "passage_length": None, "train": "mini"}
    values["data"] = {"corpora": "a.txt", "train": "mini", "evaluate": "mini"}
    recipe = recipe_files.load(write(values), [])
    assert recipe.stages["tune"].learning_rate == 2e-5
    assert (recipe.data.train, recipe.data.evaluate, recipe.stages["tune"].train) == (("mini",), ("mini",), ("mini",))
    assert [part.name for part in recipe.data.corpora] == ["a.txt"]


def test_every_mistake_is_reported_at_once(write):
    values = yaml.safe_load(yaml.safe_dump(SMALL))
    values["stages"]["pretrain"] |= {"learning_rate": "fast", "lenght": 3}
    values["stages"]["tune"] |= {"steps": 4, "negatives": -1}
    values["base"]["checkpoint"] = "bert-base-uncased"
    values["colour"] = "red"
    with pytest.raises(InputError) as caught:
        recipe_files.load(write(values), [])
    message = str(caught.value)
    for part in (
        "colour: unknown; there is base, data,",
        "stages.pretrain.learning_rate: Input should be a valid number",
        "got 'fast'",
        "stages.pretrain.lenght: unknown; there is batch, clip, corpora",
        "stages.tune.negatives: Input should be greater than or equal to 0, got -1",
        "base: give either checkpoint, or model",
    ):
        assert part in message, message


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (["pretrain.steps"], "--set 'pretrain.steps' is not PATH=VALUE"),
        (["nois.scale=1"], "unknown stage or setting 'nois'. There is: base, data, description, name, precision,"),
        (["pretrain.steps=[1"], "--set pretrain.steps=[1: the value cannot be read"),
        (["name.a.b=1"], "name: Input should be a valid string"),
        (["tune.negatives=2"], "stages.tune: needs mined negatives, which no stage before it leaves (mine would)"),
        (["tune.distil=true"], "stages.tune: needs a teacher's scores, which no stage before it leaves (score would)"),
        (["data.train=[]"], "stages.tune: data.train names no collection"),
        (["data.pseudo.few.corpora=[]"], "data.pseudo.few.corpora: Tuple should have at least 1 item"),
        (
            ["data.pseudo.few.colour=1"],
            "data.pseudo.few.colour: unknown; there is apart_from, asked, corpora, kinds, round_trip, seed, words",
        ),
        (["data.corpora=[]"], "stages.pretrain: there are no corpora"),
        (["tune.steps=null"], "give either steps or epochs"),
        (
            ["tune.kind=polish"],
            "stages.tune: unknown kind 'polish'. There is: calibrate, finetune, mine, pretrain, score, teacher",
        ),
        (
            ["tune.kind=null"],
            "stages.tune: a stage needs a kind: calibrate, finetune, mine, pretrain, score, teacher, warm_head, weigh",
        ),
        (["pretrain.objective.change.bow_positions=some"], "bow_positions is 'some'; there is unmasked, all_but_first"),
        (["pretrain.objective.change.colour=1"], "change: unknown colour; there is bow_loss_weight"),
    ],
)
def test_a_mistake_is_named(write, changes, part):
    with pytest.raises(InputError) as caught:
        recipe_files.load(write(SMALL), changes)
    assert part in str(caught.value)


def test_a_recipe_that_is_not_there(bad):
    assert "Did you mean small?" in bad("train", "--recipe", "smal")
    assert "no recipe named" in bad("train")


def test_a_file_that_is_no_recipe_is_named(write, tmp_path):
    for name, part in ((str(tmp_path), "is a folder"), ("nope.yaml", "is not there")):
        with pytest.raises(InputError, match=part):
            recipe_files.load(name, [])
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(InputError, match="holds nothing; want keys and values, such as `stages"):
        recipe_files.load(str(tmp_path / "empty.yaml"), [])
    (tmp_path / "twice.yaml").write_text("seed: 1\nstages: {}\nseed: 2\n")
    with pytest.raises(InputError, match="the key 'seed' stands twice"):
        recipe_files.load(str(tmp_path / "twice.yaml"), [])
    with pytest.raises(InputError, match=r"mine\.yaml extends"):
        recipe_files.load(write({"extends": "smal"}), [])
    with pytest.raises(InputError, match="want the name of one recipe"):
        recipe_files.load(write({"extends": ["small"]}), [])


def test_extending_itself_is_refused(write):
    one = write({}, "one.yaml")
    two = write({"extends": one}, "two.yaml")
    write({"extends": two}, "one.yaml")
    with pytest.raises(InputError, match="extends itself"):
        recipe_files.load(one, [])


def test_recipes_are_listed(cli):
    answer = cli("list", "recipes")
    assert answer.code == 0
    for name in recipe_files.names():
        assert f"\n{name} " in answer.out


def test_the_plan_is_printed_and_nothing_is_made(cli, tmp_path):
    answer = cli("train", "--recipe", "small", "--set", "pretrain.steps=5", "--plan")
    assert answer.code == 0
    assert yaml.safe_load(answer.out)["stages"]["pretrain"]["steps"] == 5
    assert not list(tmp_path.iterdir())
