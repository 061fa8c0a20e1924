"""What the tests share: a home of their own, small collections, and the real ones where there are any."""

import gc
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

# before torch is imported: each of several workers has its share of the cores
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _workers > 1:
    for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_name, str(max(1, (os.cpu_count() or 1) // _workers)))
gc.set_threshold(50_000, 20, 20)  # as the command line; what is imported below makes each collection take long

import pytest
import torch

import harness
from harness.cli import main
from harness.retrievers import compile_ahead, places
from harness.runtime import log
from harness.runtime.job import HarnessJob
from tests.support.datasets import write_beir
from tests.support.paths import ROOT, SHARED

# what numba compiles outlives the session, whose HARNESS_HOME does not
os.environ.setdefault(places.NUMBA, str(places.compiled_code()))


def pytest_configure() -> None:
    """Stop where another checkout would be tested: an editable install of it may come first on the path.

    With HARNESS_TEST_INSTALLED it is an installed package that is to be tested, and no checkout.
    """
    found = Path(harness.__file__).resolve().parent
    installed = bool({"site-packages", "dist-packages"} & {*found.parts})
    if os.environ.get("HARNESS_TEST_INSTALLED") and not installed:
        pytest.exit(f"harness is imported from {found}, and an installed package was to be tested.", 4)
    if found != ROOT / "harness" and not installed:
        pytest.exit(f"harness is imported from {found}, the tests are of {ROOT}. Run `pip install -e .` here.", 4)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile what the tests share before there are workers, each of which would compile it."""
    if getattr(session.config.option, "numprocesses", None):
        compile_ahead.start("harness.metrics.ranx", "mrr", "recall", "ndcg", "precision", "map")
        compile_ahead.start("harness.retrievers.search.warm", "dense", "lexical")
        for module in ("harness.metrics.ranx", "harness.retrievers.search.warm"):
            compile_ahead.wait(module)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start processes or train come first, so that no worker is left with a long one at the end."""
    long = {item.path for item in items for name in ("process", "integration") if item.get_closest_marker(name)}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish() -> None:
    gc.freeze()  # modules stay; to look through them again and again takes long


@pytest.fixture(autouse=True, scope="session")
def _session_home(tmp_path_factory: pytest.TempPathFactory):
    """Indexes are kept for the session, never in the user's home; ir_datasets reads its variable when imported."""
    assert "ir_datasets" not in sys.modules, "a test module imports ir_datasets (or ranx, which does) at its top"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("IR_DATASETS_HOME", str(tmp_path_factory.mktemp("ir")))
        patch.delenv("COLUMNS", raising=False)  # tox sets it, and tables would wrap
        yield


@pytest.fixture(autouse=True)
def _messages_on_standard_error() -> None:
    """As under the command line, whichever test came before; a test of the library takes its own view."""
    log.show()


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
def job(tmp_path: Path) -> HarnessJob:
    return HarnessJob(tmp_path / "cache", threads=2)


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
