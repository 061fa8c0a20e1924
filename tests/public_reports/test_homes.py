"""Containers and clusters: another user's install, no home, or one that cannot be written to."""

import builtins
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.datasets import ir_datasets_source
from harness.retrievers import jit, places
from harness.retrievers.errors import InputError
from harness.retrievers.lexical import java
from tests.support.datasets import write_beir

STRANGER = 54321  # a user whom no passwd file knows


@pytest.fixture(scope="module")
def compiled():
    """Where strangers keep compiled code, made once, in the tests that are about something else."""
    with tempfile.TemporaryDirectory(prefix="stranger-numba-") as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, STRANGER, STRANGER)
        yield {"NUMBA_CACHE_DIR": folder}


@pytest.fixture
def stranger():
    """Run the command line as that user, with no variables but those given, from an install that it cannot write to."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    place = Path(tempfile.mkdtemp(prefix="stranger-"))  # pytest's own folders are closed to others
    shutil.chown(place, STRANGER, STRANGER)
    plain = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}
    plain["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path and not path.endswith(".zip"))

    def call(*command, **variables):
        words = [executable, *map(str, command)]
        return subprocess.run(
            words, env=plain | variables, user=STRANGER, group=STRANGER, extra_groups=[], cwd=place,
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    version = f"import sys, harness.cli, numpy; assert sys.version_info[:2] == {sys.version_info[:2]}"
    for executable in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        try:
            if executable and call("-c", version).returncode == 0:
                break
        except OSError:  # as where the interpreter lies in root's own home
            continue
    else:
        pytest.skip("no Python of this version that another user can run with these packages")
    call.place = place
    yield call
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.process
def test_a_stranger_with_nothing_but_harness_home(stranger):
    """numba: "no locator available", after the whole search; a traceback for want of a passwd entry; /.ir_datasets."""
    home, results = stranger.place / "home", stranger.place / "results"
    write_beir(stranger.place / "tiny")
    words = ("-m", "harness", "run", "-r", "bm25", "-d", "tiny", "-m", "ndcg@10", "--results", results)
    for variables in ({"HOME": "/"}, {}):
        ran = stranger(*words, "--force", HARNESS_HOME=str(home), **variables)
        assert ran.returncode == 0, ran.stderr
        assert "0.8801" in ran.stdout
        assert "Traceback" not in ran.stderr
        assert list((home / "cache" / "numba").glob("metrics_*/*.nbi"))
    drawn = stranger("-m", "harness", "plot", "bars", "-O", "a.png", HARNESS_HOME=str(home), HOME="/")
    assert drawn.returncode == 0, drawn.stderr
    assert "matplotlib" not in drawn.stderr.lower()  # which says so where it has no place of its own
    assert list((home / "cache" / "matplotlib").iterdir())
    assert (home / "ir_datasets").is_dir()  # where its own home cannot be made


@pytest.mark.process
def test_a_stranger_without_any_place(stranger, compiled):
    write_beir(stranger.place / "tiny")
    ran = stranger("-m", "harness", "run", "-r", "bm25", "-d", "./tiny")
    assert (ran.returncode, ran.stderr.count("error: ")) == (2, 1)
    assert "this user has no home folder, so HARNESS_HOME must name a folder" in ran.stderr
    ran = stranger("-m", "harness", "run", "-r", "bm25", "-d", "./tiny", HOME="/")
    assert ran.returncode == 2
    assert "there is no folder /.harness/cache and it cannot be made" in ran.stderr
    for words in (("list", "retrievers"), ("list", "datasets")):
        assert stranger("-m", "harness", *words).returncode == 0
    (stranger.place / "a.trec").write_text("q1 Q0 d1 1 2 t\nq2 Q0 d3 1 1 t\n")
    scored = stranger("-m", "harness", "score", "a.trec", "-d", "./tiny", "-m", "ndcg@10", **compiled)  # keeps nothing
    assert scored.returncode == 0, scored.stderr


@pytest.mark.process
def test_a_home_that_can_be_read_only(stranger):
    """What ir_datasets and Hugging Face fetched before is used where it lies."""
    closed = stranger.place / "closed"
    for name in (".ir_datasets", ".cache/huggingface"):
        (closed / name).mkdir(parents=True)
    for folder in (closed / ".ir_datasets", closed / ".cache", closed):
        folder.chmod(0o555)
    code = (
        "from harness.retrievers.places import prepare; prepare(); import os; "
        "print(*map(os.environ.get, ('HF_HOME', 'IR_DATASETS_HOME')))"
    )
    ran = stranger("-c", code, HOME=str(closed), HARNESS_HOME=str(stranger.place / "h"))
    assert ran.stdout.split() == ["None", "None"], ran.stderr
    (closed / ".ir_datasets").rmdir()
    ran = stranger("-c", code, HOME=str(closed), HARNESS_HOME=str(stranger.place / "h"))
    assert ran.stdout.split() == ["None", str(stranger.place / "h" / "ir_datasets")]


@pytest.mark.process
def test_a_harness_home_that_can_be_read_only(stranger, compiled):
    """What one user indexed and encoded, all can search: a lock file that cannot be made was an error."""
    home, place = stranger.place / "shared", stranger.place
    write_beir(place / "tiny")
    words = ("-m", "harness", "run", "-r", "bm25", "-r", "retromae-mini", "-d", "./tiny", "-m", "ndcg@10")
    first = stranger(*words, "--results", place / "a", HARNESS_HOME=str(home), HOME=str(home), **compiled)
    assert first.returncode == 0, first.stderr
    for folder, folders, files in os.walk(home):
        for name in [*folders, *files]:
            shutil.chown(Path(folder) / name, 0, 0)
            (Path(folder) / name).chmod(0o755 if name in folders else 0o644)
    shutil.chown(home, 0, 0)
    second = stranger(*words, "--results", place / "b", HARNESS_HOME=str(home), HOME="/", **compiled)
    assert second.returncode == 0, second.stderr
    assert second.stdout.replace("/b/", "/a/") == first.stdout
    assert "encoded" not in second.stderr
    shutil.rmtree(home / "cache" / "surveys")
    third = stranger(*words, "--results", place / "c", HARNESS_HOME=str(home), HOME="/", **compiled)
    assert third.returncode == 0, third.stderr
    more = ("--fields", "multifield", "--results", place / "d")
    other = stranger(*words[:5], *words[7:], *more, HARNESS_HOME=str(home), HOME="/", **compiled)
    assert other.returncode == 2
    assert "Permission denied" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.mark.process
@pytest.mark.parametrize("closed", ["sys.stderr = None", "sys.stderr = sys.stdout = None"])
def test_without_standard_error(beir, tmp_path, closed):
    """Windowed programs and services have none; the first warning was an AttributeError."""
    code = f"import sys; {closed}; sys.argv = {['harness', 'run', '-r', 'bm25', '-d', str(beir()), '-m', 'ndcg@10']}; "
    code += "from harness.cli import main; main()"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert list((tmp_path / "results").glob("*/bm25/*/manifest.json"))
    ran = subprocess.run(
        [sys.executable, "-c", code.replace("bm25", "bm26")], cwd=tmp_path, capture_output=True, check=False
    )
    assert ran.returncode == 2


@pytest.mark.process
def test_streams_that_cannot_be_written(beir, tmp_path):
    """A full disk under the log ended the run with 1, a failed check, and so did `| head`."""

    def call(words, **streams):
        command = [sys.executable, "-m", "harness", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, check=False, **streams)

    folder = beir()
    with Path("/dev/full").open("w") as full:
        ran = call(("run", "-r", "bm25", "-d", folder, "-m", "ndcg@10"), stdout=subprocess.PIPE, stderr=full)
        assert (ran.returncode, b"0.8801" in ran.stdout) == (0, True)
        assert call(("run", "-r", "bm26"), stdout=subprocess.PIPE, stderr=full).returncode == 2
        bare = {name: os.environ[name] for name in ("HOME", "PATH")}  # in the C locale it ended with 120
        assert call(("list", "runs"), stdout=full, stderr=subprocess.DEVNULL, env=bare).returncode == 2
    for words in (("list", "retrievers"), ("list", "runs", "--json"), ("run", "-r", "bm25", "-d", folder)):
        reading, writing = os.pipe()
        os.close(reading)  # as `head` does when it has enough
        ran = call(words, stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        assert (ran.returncode, b"Traceback" in ran.stderr) == (141, False), words


@pytest.mark.process
def test_a_word_of_the_command_that_is_not_utf8(beir, tmp_path):
    """The search and the scores were made before the record could not be written."""
    words = [os.fsencode(word) for word in (sys.executable, "-m", "harness", "run", "-r", "bm25", "-d", str(beir()))]
    ran = subprocess.run([*words, b"--results", b"r\xe9s"], cwd=tmp_path, capture_output=True, check=False)
    assert (ran.returncode, ran.stderr.count(b"error: ")) == (2, 1)
    assert b"is not UTF-8. Rename the file or folder" in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.process
def test_a_check_goes_on_where_a_disk_refuses_one_entry(beir, cli, monkeypatch):
    for name in ("coordination", "bm25"):
        assert cli("check", "--update", "--baseline", "b.yaml", "-r", name, "-d", beir()).code == 0

    def refused(*_args, **_more):
        raise PermissionError(13, "Permission denied", "/closed/bm25.lock")

    monkeypatch.setattr("harness.retrievers.lexical.lucene.ensure_index", refused)
    answer = cli("check", "--baseline", "b.yaml")
    assert answer.code == 2
    assert "cannot be checked" in answer.out
    assert answer.out.count("| ok |") > 3


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A process of a user without a home, and without any variable of the above."""

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(places.Path, "home", staticmethod(no_home))
    for name in ("HOME", "HARNESS_HOME", "IR_DATASETS_HOME", "HF_HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_without_a_home_all_go_under_harness_home(nobody, tmp_path):
    with pytest.raises(InputError, match="HARNESS_HOME must name a folder"):
        places.prepare()
    nobody.setenv("HARNESS_HOME", str(tmp_path / "h"))
    nobody.setenv("HOME", "")  # so that it is put back after the test
    places.prepare()
    assert os.environ["HOME"] == str(tmp_path / "h")
    assert not (tmp_path / "h").exists()


@pytest.mark.parametrize("variable", ["IR_DATASETS_HOME", "HF_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR"])
def test_what_the_user_set_wins(monkeypatch, tmp_path, variable):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "h"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name in ("IR_DATASETS_HOME", "HF_HOME", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "")  # so that it is put back after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv(variable, "/mine")
    places.prepare()
    places.keep_fonts()
    assert os.environ[variable] == "/mine"
    assert places.compiled_code() == Path("/mine" if variable == "NUMBA_CACHE_DIR" else os.environ["NUMBA_CACHE_DIR"])
    for name, folder in (("IR_DATASETS_HOME", "ir_datasets"), ("HF_HOME", "huggingface")):
        if name != variable:
            assert os.environ[name] == str(tmp_path / "h" / folder)
    assert not (tmp_path / "h").exists()


def test_a_cache_elsewhere_moves_hugging_faces_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/proc/nowhere")
    monkeypatch.setenv("HF_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    places.prepare()
    assert os.environ["HF_HOME"] == ""


def test_compiled_code_where_nothing_can_be_written(monkeypatch, tmp_path):
    """A read-only HARNESS_HOME beside a read-only install: the code is kept for as long as the process lives."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/nowhere")
    tried = []

    def decorate():
        from numba import config

        tried.append(config.CACHE_DIR)
        if len(tried) == 1:
            raise RuntimeError("cannot cache function 'f': no locator available for file 'f.py'")
        return "made"

    assert jit.kept(decorate) == "made"
    assert tried[0] == "/proc/nowhere"
    assert Path(tried[1]).is_dir()
    with pytest.raises(RuntimeError, match="another"):
        jit.kept(lambda: (_ for _ in ()).throw(RuntimeError("another")))
    jit._temporary.cache_clear()


def test_an_ir_datasets_home_that_cannot_be_made_is_named(monkeypatch):
    monkeypatch.setattr(places, "prepare", lambda: None)
    monkeypatch.setitem(sys.modules, "ir_datasets", None)

    def refused(name, *rest, **more):
        if name == "ir_datasets":
            raise PermissionError(13, "Permission denied", "/.ir_datasets")
        return real(name, *rest, **more)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refused)
    with pytest.raises(InputError, match=r"cannot use /\.ir_datasets: Permission denied\. It makes folders"):
        ir_datasets_source._library.__wrapped__()


@pytest.mark.process
def test_importing_touches_nothing(tmp_path):
    code = "import harness; [getattr(harness, name) for name in harness.__all__]; import harness.cli.root"
    homes = {"HOME": tmp_path / "home", "HARNESS_HOME": tmp_path / "h"}
    (tmp_path / "home").mkdir()
    words = {name: str(path) for name, path in homes.items()}
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | words
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    assert not list((tmp_path / "home").iterdir())
    assert not (tmp_path / "h").exists()


@pytest.mark.parametrize("words", [("-d", "~nobody-of-this-name/x"), ("-r", "hf:~nobody-of-this-name/x")])
def test_a_home_of_nobody(bad, words):
    """pathlib raises a RuntimeError where a user of that name has no home."""
    assert "~nobody-of-this-name/x" in bad("run", "-r", "bm25", *words)


@pytest.mark.process
@pytest.mark.parametrize("variables", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "1"}])
def test_a_name_beyond_ascii_in_the_c_locale(tmp_path, variables):
    """A Java stack trace: in the C locale Java knows names in ASCII alone, as in most containers and cron jobs."""
    write_beir(tmp_path / "b\u00fccher")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    words = ("run", "-r", "bm25", "-d", "./b\u00fccher", "-m", "ndcg@10", "--results", "r\u00e9sultats")
    ran = subprocess.run(
        [sys.executable, "-m", "harness", *words], env=env | variables | {"HARNESS_HOME": str(tmp_path / "jos\u00e9")},
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert b"0.8801" in ran.stdout
    assert (tmp_path / "jos\u00e9" / "cache" / "bm25").is_dir()
    assert list((tmp_path / "r\u00e9sultats").glob("*/bm25/*/run.trec.gz"))


def test_a_name_that_java_cannot_have():
    java.start()
    with pytest.raises(InputError, match=r"Java cannot name '/tmp/\\udcff' in this locale\. Set LC_ALL=C\.UTF-8"):
        java.check_name(Path("/tmp/\udcff"))
    java.check_name(Path("/tmp/\u00e9"))
