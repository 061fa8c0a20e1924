"""The registry: ours by decorator, other people's by entry point."""

import re
import subprocess
import sys

import pytest

from harness.retrievers import registry
from harness.retrievers.errors import InputError
from harness.retrievers.registry import Identity, Options, Retriever, register
from harness.retrievers.types import Run
from tests.support.commands import run_process
from tests.support.paths import ROOT
from tests.support.retrievers import registered


def test_ours_are_there():
    assert "bm25" in registry.available()


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match=r"'bm25' is taken by harness.retrievers.lexical.bm25"):

        @register("bm25")
        class Other(Retriever):
            pass


def test_an_unknown_name_gets_the_nearest_and_all():
    with pytest.raises(InputError, match=r"unknown retriever 'bn25'\. Did you mean bm25\? There is: .*bm25"):
        registry.get("bn25")


def block(language):
    """The README's one code block in that language which belongs to the plug-in."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Your own retriever")[2]
    return text.partition(f"```{language}\n")[2].partition("```")[0]


def install(tmp_path, target):
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    (source / "overlap_plugin.py").write_text(block("python"))
    (source / "pyproject.toml").write_text(block("toml").replace("overlap_plugin:Overlap", target))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True)
    return {"PYTHONPATH": str(site)}


@pytest.mark.process
def test_an_installed_package_adds_a_retriever(tmp_path):
    env = install(tmp_path, "overlap_plugin:Overlap")
    listed = run_process("list", "retrievers", env=env)
    assert "word overlap" in listed.stdout
    ran = run_process("run", "-r", "overlap", "-o", "floor=1", "-r", "bm25", "-m", "ndcg@10", env=env, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    scores = {line.split()[1]: float(line.split()[-1]) for line in ran.stdout.splitlines() if line.startswith("mini")}
    assert 0.2 < scores["overlap"] < scores["bm25"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("overlap_plugin:Missing", r"'overlap' of overlap-plugin .* cannot be loaded"),
        ("overlap_plugin:OverlapOptions", r"is not a subclass of harness.Retriever"),
    ],
)
def test_a_broken_package_is_named(tmp_path, target, message):
    env = install(tmp_path, target)
    listed = run_process("list", "retrievers", env=env)
    assert listed.returncode == 0
    assert "bm25" in listed.stdout
    asked = run_process("run", "-r", "overlap", env=env, cwd=tmp_path)
    assert asked.returncode == 2
    for answer in (listed, asked):
        assert "Traceback" not in answer.stderr
        assert re.search(message, answer.stderr)


def test_a_retriever_of_a_package_cannot_take_a_name_of_ours(monkeypatch):
    class Impostor(Retriever):
        Options = Options

        def identity(self):
            return Identity(system="x")

        def search(self, corpus, queries, top_k, job):
            return Run.of({})

    class Point:
        name, value, dist = "bm25", "x:Impostor", None

        def load(self):
            return Impostor

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point()])
    with pytest.raises(InputError, match=r"'bm25' of .* is taken already"):
        registry.get("bm25")
    with registered():
        registry._registered.clear()
        monkeypatch.setattr(registry, "_BUILTIN_MODULES", ())
        assert registry.available() == {"bm25": Impostor}
