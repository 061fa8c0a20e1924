"""The command line: what it says to good and to bad input."""

import errno
import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer
from filelock import FileLock
from typer.testing import CliRunner

import harness.cli
from harness.cli import root
from harness.runs import record_store
from tests.support.datasets import DOCS
from tests.support.paths import ROOT

CALLS = """
import json, sys
from harness.cli import main

heavy, lines, codes = json.loads(sys.argv[1]), json.loads(sys.argv[2]), []
for words in lines:
    sys.argv = ["harness", *words]
    try:
        main()
    except SystemExit as stop:
        codes.append(stop.code or 0)
    assert not set(heavy) & set(sys.modules), (words, set(heavy) & set(sys.modules))
assert codes == [int(word) for word in sys.stdin.read().split()], codes
"""


def _away(place):
    """A folder of its own, unless only the checkout has the package."""
    return ROOT if Path(harness.__file__).is_relative_to(ROOT) else place


def imports_none_of(heavy, code, lines, place):
    """Call the command line with each of the lines, in one process; each ends with `code`."""
    words = [sys.executable, "-c", CALLS, json.dumps(heavy.split()), json.dumps(lines)]
    ran = subprocess.run(
        words, cwd=_away(place), input=f"{code} " * len(lines), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.process
def test_help_imports_nothing_heavy(tmp_path):
    heavy = "torch transformers pandas ranx pyserini numba numpy ir_datasets jnius"
    imports_none_of(heavy + " pydantic", 0, [["--help"], ["-h"], ["--version"]], tmp_path)
    imports_none_of(heavy, 0, [["run", "--help"], ["train", "--help"]], tmp_path)
    imports_none_of(heavy, 2, [["nonsense"], ["run", "--nope"]], tmp_path)


@pytest.mark.process
def test_a_mistake_is_said_before_torch_is_imported(tmp_path):
    """What is wrong in the words alone, or in files that are read without torch."""
    mistakes = """
        run -r bm26 -d mini
        run -r bm25 -d nope
        run -r bm25 -d mini -m R
        run -r bm25 -d mini -o nope=1
        run -r dupmae --checkpoint nowhere -d mini
        run -r hf:nowhere -d mini
        run -r http://localhost/v1 -d mini
        run -r search:nope -d mini
        run -r search:solr -d mini
        score nowhere.trec -d mini
        fuse nowhere elsewhere
        compare nowhere elsewhere
        dissect
        dissect --checkpoint nowhere
        dissect --checkpoint dupmae-mini -d nope
        dissect --checkpoint dupmae-mini --k-terms a,b
        dissect --checkpoint dupmae-mini --k-terms 999
        dissect --checkpoint dupmae-mini --lexical 8 --k-terms 9
        dissect --checkpoint retromae-mini
        train --recipe smal
        train --recipe small --set nope=1
        ablate -R smal
        check -B nowhere.yaml
        table 9
        plot nope
        list nope
        list retrievers nope
        export nowhere folder
        card nowhere
    """
    imports_none_of("torch", 2, [line.split() for line in mistakes.strip().splitlines()], tmp_path)


@pytest.mark.process
@pytest.mark.parametrize(
    ("typed", "offered"),
    [("harness ru", ["run"]), ("harness run --ret", ["--retriever"]), ("harness dissect --k", ["--k-terms"])],
)
def test_a_shell_completes_commands_and_options(typed, offered, tmp_path):
    code = "import sys; sys.argv = ['harness']; from harness.cli import main; main()"
    asked = {
        "_HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")),
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=_away(tmp_path), env={**os.environ, **asked}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert ran.stdout.split() == offered


def test_a_command_is_one_file_and_its_name_in_the_list(tmp_path, monkeypatch):
    """The file beside the others, the name in COMMANDS: the command is in the help, takes its options, and runs."""
    (tmp_path / "greet.py").write_text(
        "import typer\n\n\ndef greet_command(name: str = 'you') -> None:\n"
        '    """Greet somebody."""\n    typer.echo(f\'hello {name}\')\n'
    )
    monkeypatch.setattr(harness.cli, "__path__", [*harness.cli.__path__, str(tmp_path)])
    app = root.build((*root.COMMANDS, "greet"))
    assert "Greet somebody." in CliRunner().invoke(app, ["--help"]).output
    assert CliRunner().invoke(app, ["greet", "--name", "world"]).output == "hello world\n"
    sys.modules.pop("harness.cli.greet")


@pytest.mark.process
def test_the_ways_to_the_command_line():
    """`from harness.cli import app` is the Typer object, and the two modules that launchers start answer alike."""
    assert isinstance(harness.cli.app, typer.Typer)
    assert harness.cli.main is root.main
    [script] = entry_points(group="console_scripts", name="harness")
    assert script.value == "harness.cli:main"
    said = [
        subprocess.run([sys.executable, "-m", name, "list", "datasets"], check=True, capture_output=True, text=True)
        for name in ("harness", "harness.cli")
    ]
    assert said[0].stdout == said[1].stdout != ""


def test_run_prints_a_table_and_where_the_record_is(beir, cli):
    answer = cli("run", "-r", "bm25", "-d", beir(), "-m", "ndcg@10", "--fields", "multifield")
    header, row, where = answer.out.splitlines()
    assert header.split() == ["dataset", "retriever", "NDCG@10"]
    assert row.split() == ["tiny/test", "bm25", "(multifield)", "0.8801"]  # mean of 1 and 2 / (2 + 1/log2(3))
    assert where.startswith("wrote results/tiny-test/bm25/")
    assert cli("list", "runs").out.splitlines()[1].split()[0] == "tiny/test"


def test_lists(cli):
    assert "BM25" in cli("list", "retrievers").out
    assert "--option fields= flat" in " ".join(cli("list", "retrievers", "bm25").out.split())
    listed = cli("list", "datasets").out
    assert all(name in listed for name in ("mini", "msmarco-dev", "beir/bioasq", "beir/webis-touche2020/v2"))
    assert cli("--version").out.strip()


@pytest.mark.process
def test_python_m(monkeypatch, capsys):
    answer = subprocess.run(
        [sys.executable, "-m", "harness", "--version"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert answer.stdout.strip() == __import__("harness").__version__


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-r", "bm52"], ["unknown retriever 'bm52'", "Did you mean bm25", "bm25, cls"]),
        (["-r", "bm25", "-d", "beir/scifct"], ["unknown dataset 'beir/scifct'", "Did you mean"]),
        (["-r", "bm25", "-d", "tiny/tets"], ["unknown split", "'tets'", "Did you mean test"]),
        (["-r", "bm25", "-m", "ndgc@10"], ["unknown metric 'ndgc@10'", "Did you mean NDCG@k"]),
        (["-r", "bm25", "-m", "R@2000"], ["R@2000 cannot be measured on runs of 1000 results"]),
        (["-r", "bm25", "-k", "0"], ["top_k", "greater than or equal to 1", "got 0"]),
        (["-r", "bm25", "--fields", "both"], ["fields", "'flat' or 'multifield'", "got 'both'"]),
        (["-r", "bm25", "--b", "1.5"], ["b:", "less than or equal to 1", "got 1.5"]),
        (["-r", "bm25", "--k1", "nan"], ["k1:", "finite"]),
        (["-r", "bm25", "-o", "depth=3"], ["no retriever of this run has", "'depth'", "bm25 has b, fb_docs"]),
        (["-r", "bm25", "-o", "depth"], ["'depth' is not NAME=VALUE"]),
        (["-r", "bm25", "-o", "k1=[1"], ["the value cannot be read"]),
        (["-r", "bm25", "--k1", "1", "-o", "k1=2"], ["k1: given by its own flag and by --option"]),
        (["-r", "bm25", "-o", "k1=2024-13-45"], ["the value cannot be read"]),
        (["-r", "bm25", "-o", "k1=true"], ["k1:", "got True"]),
        (["-r", "bm25", "--k1", "1e308"], ["k1:", "less than or equal to 1000"]),
        (["-r", "bm25", "-d", ""], ["unknown dataset ''"]),
        (["-r", "bm25", "-d", "bad\udcff"], ["is not UTF-8"]),
        (["--k1", "1"], ["k1: options of a retriever need --retriever"]),
        ([], ["no retriever named"]),
        (["-r", "bm25", "-c", "gone.yaml"], ["gone.yaml cannot be read"]),
        (["-r", "bm25", "-d", "tiny", "--titles", "gone.tsv"], ["gone.tsv does not exist"]),
    ],
)  # fmt: skip
def test_bad_input(beir, bad, words, said):
    beir()
    message = bad("run", *words)
    assert all(part in message for part in said), message


def test_every_error_of_a_configuration_is_reported_at_once(tmp_path, bad):
    (tmp_path / "run.yaml").write_text("retreivers: [bm25]\ntop_k: many\nmetrics: [ndgc@10]\n")
    message = bad("run", "-c", "run.yaml")
    for part in ("retreivers: unknown; there is", "top_k: ", "got 'many'", "unknown metric 'ndgc@10'"):
        assert part in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [1", "is not YAML"),
        ("[1]", "holds a list"),
        ("[" * 5000, "is not YAML"),
        ("x: 2024-13-45", "is not YAML"),
        ("retrievers: [{nam: bm25}]", "retrievers.0.nam: unknown; there is called, name, options"),
        ("retrievers: [bm25]\ntop_k: true", "top_k"),
        ("retrievers: [bm25]\nmetrics: []", "metrics"),
    ],
)
def test_malformed_configurations(tmp_path, bad, content, said):
    (tmp_path / "run.yaml").write_text(content)
    assert said in bad("run", "-c", "run.yaml")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("corpus.jsonl", '{"_id": "d1"', "corpus.jsonl, line 1: not JSON"),
        ("queries.jsonl", "nothing", "queries.jsonl, line 1: not JSON"),
        ("qrels/test.tsv", "q\td\t1\nq\n", "test.tsv, line 2: 1 column,"),
        ("corpus.jsonl", "", "is empty"),
        ("queries.jsonl", '{"_id": "other", "text": "x"}', "not one of its 1 queries"),
    ],
)
def test_broken_collections(beir, bad, file, content, said):
    folder = beir()
    (folder / file).write_text(content)
    assert said in bad("run", "-r", "bm25", "-d", folder)


def test_one_id_with_two_texts(beir, bad):
    assert "two different texts" in bad("run", "-r", "bm25", "-d", beir(docs=[*DOCS, ("d1", "", "x")]))


def test_results_that_cannot_be_written(beir, bad, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert "cannot write results into" in bad("run", "-r", "bm25", "-d", beir(), "--results", "file/results")

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(record_store.tempfile, "NamedTemporaryFile", refuse)
    message = bad("run", "-r", "bm25", "-d", beir())
    assert "Permission denied" in message
    assert "--results" in message


@pytest.mark.parametrize("place", ["file/home", "/proc/nope"])
def test_a_home_that_cannot_be_made(beir, bad, tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_HOME", place)
    assert "HARNESS_HOME names another place" in bad("run", "-r", "bm25", "-d", beir())


def test_a_disk_that_fills_up_while_writing(beir, bad, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device", "results/run.trec.gz")

    monkeypatch.setattr(record_store.trec, "write", full)
    assert "No space left on device: results/run.trec.gz. Make room" in bad("run", "-r", "bm25", "-d", beir())


def test_a_bug_of_ours_is_not_disguised(beir, cli, monkeypatch):
    def bug(*args):
        raise ZeroDivisionError

    monkeypatch.setattr(record_store, "score", bug)
    answer = cli("run", "-r", "bm25", "-d", beir())
    assert answer.code == 70
    assert "Traceback" in answer.err
    assert answer.err.rstrip().endswith("ZeroDivisionError")


def test_two_processes_writing_the_same_run(beir, cli, bad, tmp_path):
    folder = beir()
    where = cli("run", "-r", "bm25", "-d", folder).out.split("wrote ")[1].strip()
    [lock] = (tmp_path / "results" / ".locks").iterdir()
    with FileLock(lock):
        answer = cli("run", "-r", "bm25", "-d", folder, "--force")
    assert answer.code == 2
    assert f"another process is writing {where} right now" in answer.err
    assert cli("run", "-r", "bm25", "-d", folder).out.count("found") == 1


def test_an_interrupt_is_no_traceback(beir, cli, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(record_store, "score", stop)
    answer = cli("run", "-r", "bm25", "-d", beir())
    assert answer.code == 130
    assert answer.err.endswith("interrupted; finished runs are kept\n")
