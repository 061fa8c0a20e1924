"""Downloads that were cut short or are a web page, in the place where ir_datasets keeps its files."""

import gzip
import io
import tarfile
import zipfile

import pytest

from harness.datasets import damaged

PAGE = b"<!DOCTYPE html>\n<html><body>404</body></html>"


@pytest.fixture
def ir(ir_home):
    """Spoil one of the real archives, and put it back after the test."""
    whole = {}

    def spoil(name, change):
        path = ir_home / name
        whole[path] = path.read_bytes()
        path.write_bytes(change(whole[path]))
        return path

    yield spoil
    for path, data in whole.items():
        path.write_bytes(data)


@pytest.mark.parametrize(
    ("dataset", "name"), [("beir/nfcorpus", "beir/nfcorpus/source.zip"), ("cranfield", "cranfield/cran.tar.gz")]
)
@pytest.mark.parametrize("change", [lambda data: data[: len(data) // 2], lambda _: PAGE, lambda _: b""])
def test_an_archive_that_is_none(ir, bad, dataset, name, change):
    """A traceback of BadZipFile or ReadError and exit 1, which `harness check` has for a changed score alone."""
    path = ir(name, change)
    message = bad("run", "-r", "bm25", "-d", dataset)
    assert f"could not read {dataset}" in message
    assert f"{path} is " in message
    assert "Delete it and run again" in message


def test_a_check_of_it_is_bad_input(ir, cli, tmp_path):
    (tmp_path / "b.yaml").write_text(
        "schema: 1\nentries: [{name: a, retriever: bm25, dataset: cranfield, metrics: {NDCG@10: {value: 0.5}}, "
        f"inputs: {{corpus: {'a' * 64}, queries: {'a' * 64}, judgments: {'a' * 64}}}}}]\n"
    )
    ir("cranfield/cran.tar.gz", lambda data: data[:1000])
    answer = cli("check", "--baseline", "b.yaml")
    assert answer.code == 2, answer
    assert "cran.tar.gz is damaged" in answer.out + answer.err


@pytest.mark.process
def test_a_fault_of_ours_is_no_failed_check(cli, monkeypatch):
    """Python's own exit status after a traceback is 1."""
    monkeypatch.setattr("harness.checks.baseline_file.read", lambda _: {}[1])
    answer = cli("check")
    assert answer.code == 70
    assert "KeyError: 1" in answer.err


def archive(kind):
    data = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(data, "w") as file:
            file.writestr("a.txt", "text " * 1000)
    elif kind == "tar.gz":
        with tarfile.open(fileobj=data, mode="w:gz") as file:
            file.addfile(tarfile.TarInfo("a.txt"))
    else:
        data.write(gzip.compress(b"text " * 10_000))
    return data.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "gz"])
def test_what_is_whole_and_what_is_not(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(archive(kind))
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "page.html").write_bytes(PAGE)
    assert damaged.files(tmp_path) == []
    path.write_bytes(archive(kind)[:-12])
    [fault] = damaged.files(tmp_path)
    assert fault.startswith(f"{path} is damaged (")
    path.write_bytes(PAGE)
    assert damaged.files(tmp_path) == [f"{path} is a web page"]
    (tmp_path / "a.tsv").write_bytes(PAGE)
    assert f"{tmp_path / 'a.tsv'} is a web page" in damaged.files(tmp_path)
