"""What the tests share: a home of their own, small collections, and the real ones where there are any."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness.cli import main
from harness.runtime.job import Conductor

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("HARNESS_TEST_DATA", ROOT.parent / "shared"))


@pytest.fixture(autouse=True, scope="session")
def _session_home(tmp_path_factory: pytest.TempPathFactory):
    """Indexes are kept for the session, never in the user's home; ir_datasets reads its variable when imported."""
    assert "ir_datasets" not in sys.modules, "a test module imports ir_datasets (or ranx, which does) at its top"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("IR_DATASETS_HOME", str(tmp_path_factory.mktemp("ir")))
        yield


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real collections."""
    if not (SHARED / "collections").is_dir():
        pytest.skip(f"needs the real collections in {SHARED} (HARNESS_TEST_DATA names another place)")
    return SHARED / "collections"


@pytest.fixture(scope="session")
def ir_home() -> Path:
    """IR_DATASETS_HOME, with a writable copy of the real files."""
    if not (SHARED / "ir_datasets").is_dir():
        pytest.skip(f"needs {SHARED / 'ir_datasets'} (HARNESS_TEST_DATA names another place)")
    place = Path(os.environ["IR_DATASETS_HOME"])
    shutil.copytree(SHARED / "ir_datasets", place, dirs_exist_ok=True)
    return place


@pytest.fixture
def one_thread():
    """Let torch compute on one thread: tiny models gain nothing from more, and threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def job(tmp_path: Path) -> Conductor:
    return Conductor(tmp_path / "cache", threads=2)


DOCS = [
    ("d1", "Apples", "red apples grow on trees"),
    ("d2", "Pears", "green pears grow on trees"),
    ("d3", "Rivers", "water runs to the sea"),
]
QUERIES = [("q1", "red apples"), ("q2", "sea water")]
QRELS = [("q1", "d1", 2), ("q1", "d2", 1), ("q2", "d3", 1)]


def write_beir(
    folder: Path,
    docs: Sequence[Sequence[str]] = DOCS,
    queries: Sequence[Sequence[str]] = QUERIES,
    qrels: Mapping[str, Sequence[Sequence[object]]] | None = None,
    gz: bool = False,
) -> Path:
    """Write a collection in BEIR layout."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    files = {
        "corpus.jsonl": [json.dumps({"_id": i, "title": t, "text": x}) for i, t, x in docs],
        "queries.jsonl": [json.dumps({"_id": i, "text": x}) for i, x in queries],
    }
    for split, rows in (qrels or {"test": QRELS}).items():
        files[f"qrels/{split}.tsv"] = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in rows)]
    for name, lines in files.items():
        data = "".join(line + "\n" for line in lines).encode()
        if gz:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def beir(tmp_path: Path) -> Callable[..., Path]:
    return lambda name="tiny", **parts: write_beir(tmp_path / name, **parts)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call the command line in this process, in a folder of its own; returns code, out and err."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=stop.value.code or 0, out=out, err=err)

    return call


@pytest.fixture
def bad(cli) -> Callable[..., str]:
    """Call the command line with bad input: exit 2, one message, no traceback, nothing left behind; returns it."""

    def call(*words: object, results: Path = Path("results")) -> str:
        answer = cli(*words)
        assert answer.code == 2, answer
        assert "Traceback" not in answer.err
        assert answer.err.count("error: ") == 1
        assert not list(results.glob("*/*/*"))
        return answer.err

    return call


def run_process(*words: object, env: Mapping[str, str] | None = None, **kwargs) -> subprocess.CompletedProcess[str]:
    """Call `python -m harness` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=300,
        check=False,
        **kwargs,
    )


@contextmanager
def replaced(registry: dict, **entries):
    """Put entries into a registry for a while."""
    before = dict(registry)
    registry.update(entries)
    try:
        yield
    finally:
        registry.clear()
        registry.update(before)
