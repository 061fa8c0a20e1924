"""Names of the Hugging Face hub: copies here, the library's cache, revisions, rules by name, and tasks of MTEB."""

import shutil
import sys

import pytest

from harness.datasets.hub.name import parse
from harness.datasets.loader import resolve
from harness.datasets.missing import MissingCollection
from harness.datasets.rules import hub_rules, rules_for
from harness.retrievers.errors import InputError
from tests.support.datasets import QRELS, opened
from tests.support.hub import write_beir_hub, write_mteb, write_nano

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "datasets" / "hf"


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """The library's cache, empty, and no network; it reads its variables when it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def downloaded(folder, commit=COMMIT):
    """Leave what `hf download --local-dir` notes of the files."""
    place = folder / ".cache" / "huggingface" / "download"
    place.mkdir(parents=True)
    (place / "README.md.metadata").write_text(f"{commit}\n0a1b\n1700000000.0\n")
    return folder


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hf:BeIR/scifact", ("BeIR/scifact", None, ())),
        ("hf:BeIR/scifact/train", ("BeIR/scifact", None, ("train",))),
        ("hf:BeIR/scifact@v1.0/train", ("BeIR/scifact", "v1.0", ("train",))),
        ("hf:mteb/MIRACL@main/de/dev", ("mteb/MIRACL", "main", ("de", "dev"))),
        ("hf:BeIR/scifact@refs/convert/parquet/test", ("BeIR/scifact", "refs/convert/parquet", ("test",))),
        ("hf:BeIR/scifact@refs/pr/2", ("BeIR/scifact", "refs/pr/2", ())),
    ],
)
def test_names_are_taken_apart(name, parts):
    found = parse(name)
    assert (found.repo, found.revision, found.parts) == parts


@pytest.mark.parametrize("name", ["hf:scifact", "hf:", "hf:a/b@", "hf:a/b/c/d/e", "hf:a b/c", "hf:a/b@x y"])
def test_what_is_no_name_of_the_hub(name):
    with pytest.raises(InputError, match=r"is no name of the Hugging Face hub\. Want hf:ORG/NAME"):
        resolve(name)


def test_a_copy_under_harness_home_is_taken(home, job, offline):
    write_beir_hub(home / "BeIR" / "scifact", qrels={"test": QRELS, "train": QRELS[:1]})
    found = opened("hf:BeIR/scifact", job)
    assert (found.name, found.dataset_id, found.revision) == ("hf:BeIR/scifact", "hf:BeIR/scifact/test", None)
    assert found.counts.judgments == 3
    assert opened("hf:BeIR/scifact/train", job).counts.judgments == 1


def test_the_commit_of_a_download_is_the_identity(home, job, offline):
    downloaded(write_nano(home / "o" / "x"))
    found = opened("hf:o/x", job)
    assert (found.revision, found.dataset_id, found.warnings) == (COMMIT, f"hf:o/x@{COMMIT}/train", [])
    assert opened(f"hf:o/x@{COMMIT[:8]}", job).warnings == []
    again = opened(found.dataset_id, job)  # as a record names it
    assert (again.content_hash, again.revision) == (found.content_hash, COMMIT)


def test_another_revision_than_was_asked_for(home, job, offline):
    place = write_nano(home / "o" / "x")
    found = opened("hf:o/x@v2", job)
    assert found.dataset_id == "hf:o/x@v2/train"
    assert found.warnings == [f"hf:o/x@v2: the copy in {place} is taken as revision v2; it does not say which it is"]
    downloaded(place)
    with pytest.raises(InputError, match=rf"is revision {COMMIT} of o/x, and {OTHER} was asked for\. Fetch that into"):
        resolve(f"hf:o/x@{OTHER}")
    exact = write_nano(home / "o" / f"x@{OTHER}")
    [dataset] = resolve(f"hf:o/x@{OTHER}")
    assert (dataset.source.location, dataset.revision) == (str(exact), OTHER)


def test_what_is_not_here_says_what_to_fetch_and_where_to_put_it(home, offline):
    with pytest.raises(MissingCollection) as error:
        resolve("hf:BeIR/scifact@v1")
    message = str(error.value)
    place = home / "BeIR" / "scifact"
    assert "hf:BeIR/scifact@v1 is not here and could not be fetched" in message
    assert f"`hf download --repo-type dataset BeIR/scifact --revision v1 --local-dir {place}`" in message
    assert f"`hf download --repo-type dataset BeIR/scifact-qrels --local-dir {place}-qrels`" in message
    assert "\n" not in message
    write_beir_hub(place, second=False)
    with pytest.raises(MissingCollection, match=r"hf:BeIR/scifact-qrels is not here"):
        resolve("hf:BeIR/scifact")


def cached(hub, repo, folder, commit, revision="main"):
    """A repository as the library caches it."""
    place = hub / f"datasets--{repo.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / revision).write_text(commit)
    shutil.copytree(folder, place / "snapshots" / commit)
    return place / "snapshots" / commit


def test_without_a_network_the_cache_of_the_library_is_enough(home, offline, tmp_path, job):
    beir = write_beir_hub(tmp_path / "scifact")
    cached(offline, "BeIR/scifact", beir, COMMIT)
    cached(offline, "BeIR/scifact-qrels", tmp_path / "scifact-qrels", OTHER)
    found = opened("hf:BeIR/scifact", job)
    assert found.dataset_id == f"hf:BeIR/scifact@{COMMIT}/test"
    assert found.revision == f"{COMMIT}, judgments {OTHER}"
    assert found.content_hash == opened(f"hf:{beir}", job).content_hash


def test_a_cache_that_lacks_files_is_no_collection(home, offline, tmp_path):
    snapshot = cached(offline, "o/x", write_nano(tmp_path / "x"), COMMIT)
    shutil.rmtree(snapshot / "qrels")
    with pytest.raises(MissingCollection, match=r"lacks qrels/train-\*"):
        resolve("hf:o/x")


def test_a_network_fetches_the_readme_and_then_what_it_names(home, tmp_path, monkeypatch, job):
    """Of a repository with three subsets one is fetched, at the commit that the revision is now."""
    import huggingface_hub

    folder, asked = write_nano(tmp_path / "snapshots" / COMMIT), []

    class Api:
        def dataset_info(self, repo, revision, timeout):
            return type("Info", (), {"sha": COMMIT if (repo, revision) == ("o/x", "v1") else None})

    def snapshot(repo, *, repo_type, revision, allow_patterns, local_files_only):
        asked.append((repo, repo_type, revision, tuple(allow_patterns), local_files_only))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    found = opened("hf:o/x@v1", job)
    assert (found.name, found.revision) == ("hf:o/x@v1", COMMIT)
    globs = ("README.md", "corpus/train-*", "queries/train-*", "qrels/train-*")
    assert asked == [
        ("o/x", "dataset", COMMIT, ("README.md",), False),
        ("o/x", "dataset", COMMIT, globs, False),
    ]


@pytest.mark.parametrize(
    ("repo", "split", "stands_for"),
    [
        ("BeIR/arguana", "test", "beir/arguana"),
        ("mteb/arguana", "test", "beir/arguana"),
        ("BeIR/quora", "validation", "beir/quora/dev"),
        ("mteb/quora", "test", "beir/quora/test"),
        ("mteb/touche2020", "test", "beir/webis-touche2020/v2"),
        ("BeIR/scifact", "train", "beir/scifact/train"),
        ("mteb/cqadupstack-android", "test", "beir/cqadupstack/android"),
    ],
)
def test_known_repositories_take_the_rules_of_the_collection_by_their_name(repo, split, stands_for):
    found, plain = hub_rules(repo, split), rules_for(stands_for)
    assert (found.drop_self, found.levels) == (plain.drop_self, plain.levels)
    assert found.official == ("NDCG@10", "R@100")
    assert found.source.startswith(f"{repo} is beir/")
    assert plain.source in found.source


def test_others_are_plain():
    assert hub_rules("someone/arguana", "test").drop_self is False
    assert hub_rules("mteb/unheard-of", "test").source.startswith("none:")
    nano = hub_rules("zeta-alpha-ai/NanoArguAna", "train")
    assert (nano.drop_self, "NanoBEIR" in nano.source) == (False, True)


@pytest.fixture
def mteb():
    return pytest.importorskip("mteb")


def test_a_task_of_mteb_says_repository_revision_split_and_rules(home, mteb, job, offline):
    about = mteb.get_task("ArguAna").metadata
    write_mteb(home / about.dataset["path"], qrels={"train": QRELS[:1], "test": QRELS})
    found = opened("mteb:ArguAna", job)
    assert found.name == "mteb:ArguAna"
    assert found.dataset_id == f"hf:{about.dataset['path']}@{about.dataset['revision']}/test"
    assert found.rules.drop_self  # MTEB ignores identical ids there
    assert "MTEB's task ArguAna" in found.rules.source
    assert found.official() == ("NDCG@10",)
    assert [f"taken as revision {about.dataset['revision']}" in warning for warning in found.warnings] == [True]
    assert opened("mteb:ArguAna/train", job).counts.judgments == 1


def test_the_split_of_a_task_is_the_one_that_is_evaluated(home, mteb, job, offline):
    """MSMARCO is evaluated on dev, of which a copy may say validation."""
    write_mteb(home / "mteb" / "msmarco", qrels={"validation": QRELS, "test": QRELS[:1]})
    assert opened("mteb:MSMARCO", job).counts.judgments == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SciFat", r"unknown task of MTEB 'SciFat'\. Did you mean SciFact"),
        ("Banking77Classification", r"is a task of Classification, and text retrieval is wanted"),
        ("AskUbuntuDupQuestions", r"is a task of Reranking, and text retrieval is wanted"),
        ("CQADupstackRetrieval", r"is the mean of several tasks\..*: mteb:CQADupstackAndroidRetrieval"),
        ("MIRACLRetrieval", r"has \d+ subsets\. Name one: mteb:MIRACLRetrieval/SUBSET\. There is: ar, bn"),
        ("MIRACLRetrieval/xx", r"unknown subset of mteb:MIRACLRetrieval 'xx'"),
        ("SciFact/test/test", r"has a part too many\. Want mteb:TASK\[/SUBSET\]\[/SPLIT\]"),
        ("DanFeverRetrieval", r"loads strombergnlp/danfever by code of its own"),
        ("SciFact", r"hf download --repo-type dataset mteb/scifact --revision [0-9a-f]{40} --local-dir"),
    ],
)
def test_tasks_that_cannot_be_taken(name, message, home, mteb, offline):
    with pytest.raises(InputError, match=message):
        resolve(f"mteb:{name}")


def test_without_mteb_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(InputError, match=r"mteb:SciFact needs mteb: pip install 'dupmae-harness\[mteb\]'"):
        resolve("mteb:SciFact")
