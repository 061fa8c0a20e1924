"""Kinds of training stages: ours, one in a file beside them, those of installed packages, and mistakes."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from typing import Literal

import pytest
import torch
import yaml
from safetensors.torch import load_file

import harness.training.stages
from harness.ablation.grid import stage_2
from harness.models.checkpoints import checkpoint
from harness.retrievers.errors import InputError
from harness.training import recipe_files, stage
from harness.training.recipe_data import Strict
from harness.training.stage import Stage, register
from tests.support.paths import ROOT
from tests.support.recipes import RECIPE

# a stage that trains: it pulls the weights of the encoder's head to 0, slowly enough to be killed on the way
SHRINK = '''
import time
from typing import Literal

from harness.training.schedule import Schedule
from harness.training.stage import ENCODER, register


class Task:
    def __init__(self, module):
        self.module = module

    def prepare(self, step):
        return step

    def backward(self, model, batch, accelerator):
        time.sleep(0.02)
        loss = sum((weight**2).sum() for weight in model.parameters())
        accelerator.backward(loss)
        return {"loss": loss.detach()}, 1

    def name(self, batch):
        return f"step {batch}"

    def extra(self):
        return {}

    def restore(self, extra):
        pass

    def validate(self, accelerator):
        return {}


@register
class Shrink(Schedule):
    """Weights become smaller."""

    kind: Literal["shrink"]
    asks: str = ""
    leaves = (ENCODER, "something small")

    def needs(self):
        return (self.asks,) if self.asks else ()

    def words(self):
        return f"shrink the weights, {self.length_in_words}"

    def check_model(self, outlook):
        if self.batch > outlook.hidden:
            yield f"{outlook.name}.batch is {self.batch}; the model is {outlook.hidden} wide"

    def run(self, context, name, folder):
        from harness.models import hybrid
        from harness.models.checkpoints import checkpoint
        from harness.training.base_model import load_masked_lm
        from harness.training.context import fit_stage

        model, tokenizer = load_masked_lm(context.encoder)
        settings = self.loop(100, context.recipe.seed)
        fit_stage(context, name, Task(model), settings, folder)
        if context.main:
            spec = hybrid.HybridSpec(query_length=8, passage_length=8)
            checkpoint.save(folder, model, tokenizer, spec.replace(trained=context.trained(name, {})))
        return {"steps": settings.steps}
'''
STAGE = {"kind": "shrink", "steps": 30, "batch": 4, "learning_rate": 0.01, "save_every": 2}


@pytest.fixture(autouse=True)
def _only_ours(monkeypatch):
    """What a test registers is forgotten after it."""
    stage.kinds()
    for name in ("_registered", "_packages"):
        monkeypatch.setattr(stage, name, dict(getattr(stage, name)))
    yield
    for name in ("shrink", "twin", "soup", "harness.training.stages.shrink"):
        sys.modules.pop(name, None)


def package(site, module, code, points, version=1):
    """An installed package of one module, as pip leaves it."""
    about = site / f"{module}-{version}.dist-info"
    about.mkdir(parents=True)
    (site / f"{module}.py").write_text(code)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text("[harness.stages]\n" + "".join(f"{point}\n" for point in points))


def recipe(path, **stages):
    values = RECIPE | {"stages": stages, "data": {"corpora": RECIPE["data"]["corpora"], "train": ["mini"]}}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def message(path, *changes):
    with pytest.raises(InputError) as caught:
        recipe_files.load(path, list(changes))
    return str(caught.value)


def test_ours_are_there_each_in_the_module_of_its_name():
    found = stage.kinds()
    assert list(found) == ["calibrate", "finetune", "mine", "pretrain", "score", "teacher", "warm_head", "weigh"]
    for name, kind in found.items():
        assert kind.__module__ == f"harness.training.stages.{name}"
        assert kind.__doc__


def test_no_other_module_knows_a_kind():
    """In `harness` the ablation names some, since it is of pre-training and fine-tuning; no other room does."""
    for path in (ROOT / "harness").rglob("*.py"):
        name = path.relative_to(ROOT / "harness").as_posix()
        if path.resolve() == path and not name.startswith(("ablation/", "training/stages/")):
            assert "training.stages." not in path.read_text(encoding="utf-8"), path


def test_a_kind_is_one_file(tmp_path, monkeypatch, cli, bad):
    """It lies beside ours, and nothing else is edited: the plan shows it, what is wrong is said first, and it runs."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "shrink.py").write_text(SHRINK)
    monkeypatch.setattr(
        harness.training.stages, "__path__", [*harness.training.stages.__path__, str(tmp_path / "beside")]
    )
    path = recipe(tmp_path / "tiny.yaml", small=STAGE)
    plan = cli("train", "-R", path, "--plan")
    assert plan.out.startswith("# 1. small: shrink the weights, 30 steps of 4\nname: tiny\n")
    assert yaml.safe_load(plan.out)["stages"]["small"]["kind"] == "shrink"
    words = ("train", "-R", path, "--threads", 1)
    assert "small.batch is 99; the model is 16 wide" in bad(*words, "--set", "small.batch=99")
    assert "stages.small.colour: unknown; there is asks, batch, clip" in bad(*words, "--set", "small.colour=1")
    assert "stages.small.steps: Input should be greater" in bad(*words, "--set", "small.steps=0")
    assert cli(*words).code == 0
    made = tmp_path / "trained" / "tiny" / "small"
    assert json.loads((made / "manifest.json").read_text())["steps"] == 30
    before, after = (load_file(made.parent / name / "model.safetensors") for name in ("base", "small"))
    assert sum(float((w**2).sum()) for w in after.values()) < 0.8 * sum(float((w**2).sum()) for w in before.values())


@pytest.mark.process
def test_a_kind_of_an_installed_package_is_resumed_after_a_kill(tmp_path, monkeypatch, cli):
    site = tmp_path / "site"
    package(site, "shrink", SHRINK, ["shrink = shrink:Shrink"])
    recipe(tmp_path / "tiny.yaml", small=STAGE)
    env = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    monkeypatch.syspath_prepend(site)
    words = ("train", "-R", "tiny.yaml", "--threads", "1", "-O")
    command = [sys.executable, "-m", "harness", *words, "killed"]
    state = tmp_path / "killed" / "small.partial" / "state.pt"
    with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE) as process:
        while not state.exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed" / "small").exists()
    for output in ("killed", "whole"):
        answer = cli(*words, output)
        assert answer.code == 0, answer.err
        assert ("it goes on from its last saved state" in answer.err) == (output == "killed")
    ours, theirs = (load_file(tmp_path / output / "small" / "model.safetensors") for output in ("killed", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    log = [json.loads(line) for line in (tmp_path / "killed" / "small" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [10, 20, 30]


def block(language):
    text = (ROOT / "docs" / "new-stage.md").read_text(encoding="utf-8")
    return text.partition(f"```{language}\n")[2].partition("```")[0]


def test_the_page_of_the_docs_averages_two_stages(tmp_path, monkeypatch, cli, bad):
    points = [line for line in block("toml").splitlines() if line.startswith("soup = ")]
    package(tmp_path / "site", "soup", block("python"), [points[0].replace('"', "")])
    monkeypatch.syspath_prepend(tmp_path / "site")
    text = (ROOT / "docs" / "new-stage.md").read_text(encoding="utf-8")
    [command] = [line for line in text.splitlines() if line.startswith("harness train")]
    plan = cli(*shlex.split(command)[1:])
    assert "\n# 8. soup: average in_batch, hard_negatives\n" in plan.out
    tune = RECIPE["stages"]["in_batch"] | {"dense": 8, "lexical": 4}
    path = recipe(tmp_path / "tiny.yaml", one=tune, two=tune, soup={"kind": "soup", "of": ["one", "two"]})
    words = ("train", "-R", path, "--threads", 1)
    assert "soup.of: base is not fine-tuned before it; one, two is." in bad(*words, "--set", "soup.of=[one, base]")
    answer = cli(*words)
    assert answer.code == 0, answer.err
    for file in ("model.safetensors", checkpoint.PROJECTION):
        one, two, soup = (load_file(f"trained/tiny/{name}/{file}") for name in ("one", "two", "soup"))
        for name, weight in soup.items():
            torch.testing.assert_close(weight, (one[name] + two[name]) / 2)
        assert any(not torch.equal(one[name], two[name]) for name in one)


# --- what is wrong


def test_an_unknown_kind_and_one_that_is_not_said(tmp_path):
    path = recipe(tmp_path / "tiny.yaml", small=STAGE)
    found = message(path)
    there = "calibrate, finetune, mine, pretrain, score, teacher, warm_head, weigh"
    assert f"stages.small: unknown kind 'shrink'. There is: {there}" in found
    assert "Did you mean pretrain?" in message(path, "small.kind=pretrian")
    for change, got in (("small.kind=null", "kind None"), ("small.kind=3", "kind 3"), ("stages.small=[1]", "[1]")):
        assert f"stages.small: a stage needs a kind: {there}; got {got}." in message(path, change)


def test_what_no_earlier_stage_leaves(tmp_path, monkeypatch):
    package(tmp_path / "site", "shrink", SHRINK, ["shrink = shrink:Shrink"])
    monkeypatch.syspath_prepend(tmp_path / "site")
    path = recipe(tmp_path / "tiny.yaml", small=STAGE, smaller=STAGE)
    needs = "stages.small: needs a teacher, which no stage before it leaves (teacher would)"
    assert needs in message(path, "small.asks=a teacher")
    assert "needs luck, which no stage before it leaves (no kind would)" in message(path, "small.asks=luck")
    assert "needs something small, which no stage before it leaves (no kind would)" in message(
        path, "small.asks=something small"
    )
    recipe_files.load(path, ["smaller.asks=something small"])


def test_two_kinds_of_one_name(tmp_path, monkeypatch):
    """Said when such a stage is wanted; every other recipe is read as before."""
    site = tmp_path / "site"
    package(site, "shrink", SHRINK, ["shrink = shrink:Shrink"])
    package(site, "twin", SHRINK, ["shrink = twin:Shrink"])
    monkeypatch.syspath_prepend(site)
    assert "two kinds of stage are called 'shrink': " in message(recipe(tmp_path / "tiny.yaml", small=STAGE))
    recipe_files.load("small", [])
    with pytest.raises(
        InputError, match=r"two kinds of stage are called 'mine': harness\.training\.stages\.mine\.Mine and"
    ):
        register(type("Other", (stage.kinds()["mine"],), {"__module__": "elsewhere"}))


def test_another_version_of_a_package_does_not_find_what_the_first_left(tmp_path, monkeypatch, cli, bad):
    sites = [tmp_path / f"site{version}" for version in (1, 2)]
    for version, site in enumerate(sites, 1):
        package(site, "shrink", SHRINK.replace("time.sleep(0.02)", ""), ["shrink = shrink:Shrink"], version)
    path = recipe(tmp_path / "tiny.yaml", small=STAGE | {"steps": 1})
    with monkeypatch.context() as patch:
        patch.syspath_prepend(sites[0])
        assert cli("train", "-R", path).code == 0
        assert "found trained/tiny/small" in cli("train", "-R", path).err
    monkeypatch.syspath_prepend(sites[1])
    assert 'package was "shrink 1", is "shrink 2"' in bad("train", "-R", path)


# --- mistakes of a kind's author


def kind_of(body, **members):
    """A kind made here and now, under the name `odd`."""
    space = {"__module__": "odd", "__annotations__": {"kind": Literal["odd"]}, **members}
    return type("Odd", (Stage,), space | {"run": body})


def leaves_a_line(self, context, name, folder):
    (folder / "inner").mkdir()
    with (folder / "inner" / "out.txt").open("a") as file:
        file.write("line\n")
    if not (context.output / "again").exists():
        raise RuntimeError("killed")
    return {}


def test_a_stage_that_was_stopped_begins_again_in_an_empty_folder(tmp_path, cli):
    register(kind_of(leaves_a_line))
    path = recipe(tmp_path / "tiny.yaml", small={"kind": "odd"})
    answer = cli("train", "-R", path, "-O", "made")
    assert answer.code == 70
    assert answer.err.endswith("RuntimeError: killed\nin the stage small of the recipe tiny\n")
    (tmp_path / "made" / "again").touch()
    answer = cli("train", "-R", path, "-O", "made")
    assert answer.code == 0, answer.err
    assert "small.partial is unfinished; it has no saved state, so it begins at its start" in answer.err
    assert (tmp_path / "made" / "small" / "inner" / "out.txt").read_text() == "line\n"


@pytest.mark.parametrize(
    ("returned", "members", "part"),
    [
        (None, {}, r"odd\.Odd\.run returned None; it must return a dictionary"),
        ({"a": {1}}, {}, "returned what JSON cannot hold"),
        ({"a": float("nan")}, {}, "returned what JSON cannot hold"),
        ({"kind": "other", "key": 1}, {}, "returned key, kind, which the manifest says of every stage already"),
        ({}, {"leaves": (stage.ENCODER,)}, "is to leave an encoder, and saved no checkpoint in"),
    ],
)
def test_what_a_run_may_not_return(tmp_path, cli, returned, members, part):
    register(kind_of(lambda self, context, name, folder: returned, **members))
    answer = cli("train", "-R", recipe(tmp_path / "tiny.yaml", small={"kind": "odd"}))
    assert answer.code == 70
    assert re.search(f"(TypeError|ValueError): .*{part}", answer.err)
    assert not (tmp_path / "trained" / "tiny" / "small").exists()


@pytest.mark.parametrize(
    ("method", "returned", "part"),
    [
        ("needs", "a teacher", "Odd.needs returned 'a teacher'; it must return a list or a tuple of str"),
        ("learns_from", None, "Odd.learns_from returned None; it must return a list or a tuple of str"),
        ("texts", ["a.txt"], "Odd.texts returned ['a.txt']; it must return a list or a tuple of CorpusPart"),
        ("wrong", [3], "Odd.wrong returned [3]; it must return a list or a tuple of str"),
    ],
)
def test_a_method_that_lists_something_returns_a_list(tmp_path, method, returned, part):
    register(kind_of(lambda *_: {}, **{method: lambda *_: returned}))
    with pytest.raises(TypeError, match=re.escape(part)):
        recipe_files.load(recipe(tmp_path / "tiny.yaml", small={"kind": "odd"}), [])


def test_lists_and_generators_will_do(tmp_path):
    register(kind_of(lambda *_: {}, learns_from=lambda self, data: ["mini"], wrong=lambda self, data: iter(["a", "b"])))
    assert "stages.small: a; stages.small: b" in message(recipe(tmp_path / "tiny.yaml", small={"kind": "odd"}))


def test_words_are_one_line(tmp_path):
    register(kind_of(lambda *_: {}, words=lambda self: "two\nlines"))
    made = recipe_files.load(recipe(tmp_path / "tiny.yaml", small={"kind": "odd"}), [])
    assert recipe_files.as_plan(made).startswith("# 1. small: two lines\nname: tiny\n")


def test_an_unknown_setting_within_a_choice_of_models(tmp_path):
    class One(Strict):
        a: int = 0

    class Two(Strict):
        b: int = 0

    choice = {"__annotations__": {"kind": Literal["odd"], "part": One | Two}, "part": One()}
    register(kind_of(lambda *_: {}, **choice))
    path = recipe(tmp_path / "tiny.yaml", small={"kind": "odd", "part": {"c": 1}})
    assert "c: unknown" in message(path)


@pytest.mark.parametrize(
    ("members", "part"),
    [
        ({"run": Stage.run}, "odd.Odd has no method run"),
        (
            {"__annotations__": {"kind": Literal["odd"], "searches": bool}, "searches": True},
            "odd.Odd has a setting searches: that name means something to every stage",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Field name")
def test_a_class_that_cannot_be_a_kind(members, part):
    with pytest.raises(ValueError, match=part):
        register(type("Odd", (kind_of(lambda *_: {}),), {"__module__": "odd", **members}))


def test_an_ablation_keeps_what_neither_trains_nor_mines():
    register(kind_of(lambda *_: {}, leaves=(stage.ENCODER,)))
    changes = ["stages.last={kind: odd}", "stages.after={kind: mine}"]
    found = stage_2(recipe_files.load(recipe_files.ablation("small"), changes))
    assert "last" in found.stages
    assert "after" not in found.stages


@pytest.mark.parametrize(
    ("point", "part"),
    [
        ("shrink = shrink:Missing", "'shrink' of shrink (shrink:Missing) cannot be loaded: AttributeError"),
        ("shrink = shrink:Task", "'shrink' of shrink (shrink:Task) is not a subclass of harness.training.stage.Stage"),
        ("grow = shrink:Shrink", "'grow' of shrink (shrink:Shrink) calls itself 'shrink'"),
    ],
)
def test_a_broken_package_is_named_where_its_kind_is_wanted(tmp_path, monkeypatch, point, part):
    package(tmp_path / "site", "shrink", SHRINK, [point])
    monkeypatch.syspath_prepend(tmp_path / "site")
    path = recipe(tmp_path / "tiny.yaml", small=STAGE)
    assert part in message(path, f"small.kind={point.split()[0]}")
    recipe_files.load("small", [])


def test_a_class_that_does_not_say_its_name():
    with pytest.raises(ValueError, match="Nameless wants a field `kind: Literal"):

        @register
        class Nameless(Stage):
            pass
