"""What is installed is one package: from a wheel, from an sdist, from a checkout, and beside a user's own `models`."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.process

OURS = ("models", "reports", "retrievers")
PIP = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]


def build(kind, source, target):
    """Build a wheel or an sdist of the checkout in `source`, and return its path."""
    words = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    subprocess.run(words, cwd=source, check=True, capture_output=True)
    [path] = target.iterdir()
    return path


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    """The sdist, unpacked."""
    place = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("sdist", ROOT, place / "packed")) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # which Python has from 3.11.4 on
        archive.extractall(place)
    return next(place.glob("dupmae_harness-*"))


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Make a virtual environment that has what this one has but for the harness, and install into it."""

    def make(*words):
        place = tmp_path_factory.mktemp("venv")
        venv.create(place)
        scheme = {"base": str(place), "platbase": str(place)}
        site = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
        # the .pth files of a folder that a .pth names are not read: an editable install does not come along
        others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        (site / "others.pth").write_text("\n".join(others))
        subprocess.run([*PIP, "--target", str(site), *map(str, words)], check=True, capture_output=True)
        return place / "bin" / "python"

    return make


@pytest.fixture(scope="session")
def installed(environment, wheel):
    return environment(wheel)


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A user's folder with a package, a module and a folder of our names."""
    for place in ("models/__init__.py", "retrievers.py", "reports/readme.txt"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("WHOSE = 'theirs'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)


def call(*words, **kwargs):
    return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=300, check=True, **kwargs)


def listed(path):
    with zipfile.ZipFile(path) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_a_wheel_has_one_top_level_name(wheel):
    names = listed(wheel)
    assert {name.split("/")[0] for name in names} == {"harness"}
    for folder in ("harness", *OURS):
        inside = Path("harness", *([] if folder == "harness" else [folder]))
        for path in (ROOT / folder).rglob("*.py"):
            assert (inside / path.relative_to(ROOT / folder)).as_posix() in names


def test_a_wheel_of_the_sdist_is_the_wheel_of_the_checkout(wheel, unpacked, tmp_path):
    assert not any(path.is_symlink() for path in unpacked.rglob("*"))
    assert listed(build("wheel", unpacked, tmp_path)) == listed(wheel)


def test_an_editable_install_offers_nothing_else(environment, theirs):
    python = environment("-e", ROOT)
    say = f"import harness.models.errors as e; print(e.__file__); import {OURS[0]}; print({OURS[0]}.WHOSE)"
    where, whose = call(python, "-c", say).stdout.split()
    assert Path(where).resolve() == ROOT / "models" / "errors.py"
    assert whose == "theirs"
    shutil.rmtree("models")
    Path("harness").mkdir()  # a folder that only bears the name, such as a clone
    for name in OURS[::2]:
        Path(f"{name}.py").unlink(missing_ok=True)
        say = f"import harness, importlib.util as u; print(u.find_spec({name!r}))"
        assert call(python, "-c", say).stdout.strip() == "None"


def test_the_command_beside_a_users_own_models(installed, theirs):
    for word in ("harness", "harness.cli"):
        ran = call(installed, "-m", word, "run", "-r", "bm25", "-d", "mini")
        assert "0.6568" in ran.stdout


def test_an_interpreter_beside_a_users_own_models(installed, theirs):
    lines = [
        "import harness",
        "print(round(harness.run('bm25', 'mini').metrics['NDCG@10'], 6))",
        f"import {', '.join(OURS[::2])}",
        *(f"print({name}.WHOSE)" for name in OURS[::2]),
        "harness.retrievers.__name__",
        "exit()",
    ]
    said = call(installed, "-i", input="\n".join(lines))
    assert "Error" not in said.stderr
    assert said.stdout.split() == ["0.656837", "theirs", "theirs", "'harness.retrievers'"]


def test_several_processes_beside_a_users_own_models(installed, theirs):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "harness.cli"]
    ran = call(installed, *words, "run", "-r", "dupmae-mini", "-d", "mini", env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert "0.5891" in ran.stdout


def test_pytest_in_a_checkout_that_is_not_installed(environment):
    """As in a fresh clone whose dependencies are there: the folder that pytest is called in is on the path."""
    python = environment("--no-deps", "-e", ROOT)  # then taken away again, to leave the environment alone
    site = next((python.parent.parent / "lib").glob("python*/site-packages"))
    for path in site.glob("*dupmae_harness*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HARNESS_TEST_INSTALLED")}
    ran = call(python, "-m", "pytest", "-q", "-n", "0", "tests/test_architecture.py", cwd=ROOT, env=env)
    assert " passed" in ran.stdout


def test_nothing_is_built_of_a_checkout_that_lost_a_link(tmp_path):
    """An unpacked .zip has text files in the place of links; a wheel of it would lack three of four packages."""
    for name in (
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
        "LICENSE",
        "harness/__init__.py",
        "harness/version.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "harness" / "reports").write_text("../reports")
    for name in ("models", "retrievers"):
        (tmp_path / "harness" / name).symlink_to(ROOT / name)
    for kind in ("wheel", "sdist"):
        words = [sys.executable, "-m", "hatchling", "build", "-t", kind]
        ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 1
        assert "harness/reports: no symbolic link to the folder of that name. This archive lost" in ran.stderr
        assert not list(tmp_path.glob("dist/*"))


def test_a_link_checked_out_as_text_is_one_clear_error(tmp_path):
    """Git writes a link as a text file that holds its target where core.symlinks is off."""
    (tmp_path / "harness").mkdir()
    for name in ("__init__.py", "version.py"):
        shutil.copy(ROOT / "harness" / name, tmp_path / "harness" / name)
    for name in ("models", "retrievers"):
        (tmp_path / "harness" / name).symlink_to(ROOT / name)
    (tmp_path / "harness" / "reports").write_text("../reports")
    ran = subprocess.run(
        [sys.executable, "-c", "import harness"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    error = ran.stderr.strip().splitlines()[-1]
    assert "/harness lacks reports: each is a symbolic link" in error
    assert "git config core.symlinks true && rm -f harness/models harness/reports harness/retrievers" in error
