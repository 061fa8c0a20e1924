"""What a retriever's records go by: the word for a path or a URL, a name that is given, and records of before."""

import gzip
import hashlib
import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest

import harness
from harness.analysis.plot_selection import choose
from harness.datasets.suites import SUITES
from harness.reports.records import records
from harness.retrievers.errors import InputError
from harness.retrievers.run_files import exchange, fusion
from harness.runs import naming, suites
from harness.runs.config import RetrieverSpec
from harness.runs.fusion import Recipe
from tests.support import tiny
from tests.support.cross_encoders import own
from tests.support.datasets import DOCS, write_beir
from tests.support.hub import write_nano

pytestmark = pytest.mark.usefixtures("one_thread")
METRICS = ("-m", "NDCG@10")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A collection `col`, and two models of one name in folders of their own."""
    monkeypatch.chdir(tmp_path)
    write_beir(tmp_path / "col")
    for seed, place in enumerate("ab"):
        tiny.save_hybrid(tmp_path / place / "m", seed=seed)
    return tmp_path


@pytest.fixture
def model(here):
    """The whole name of one of them."""
    return f"hf:{here / 'a' / 'm'}"


def rows(out):
    """The first two columns of a printed table, below its header."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()[1:]]
    return [(line[0], line[1]) for line in lines if len(line) > 2]


def tags(folder):
    """The last column of a record's TREC file."""
    with gzip.open(folder / records.RUN, "rt") as file:
        return {line.split()[-1] for line in file}


def as_before(record):
    """File a record as it was when the whole name was the folder's; returns that folder."""
    manifest = json.loads((record.folder / records.MANIFEST).read_text())
    del manifest["system"]["called"]
    (record.folder / records.MANIFEST).write_text(json.dumps(manifest))
    name = "-".join(re.findall(r"[\w.+]+", manifest["system"]["retriever"]))
    place = record.folder.parents[1] / name / record.folder.name
    place.parent.mkdir()
    record.folder.rename(place)
    record.folder.parent.rmdir()
    return place


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("bm25", "bm25"),
        ("dupmae", "dupmae"),
        ("hf:/x/y/my-model", "my-model"),
        ("hf:/x/y/my-model/", "my-model"),
        ("hf:./my-model/.", "my-model"),
        ("hf:~/models/my model (v2)", "my-model-v2"),
        ("hf:sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
        ("hf:my#model", "my-model"),
        ("st:minishlab/potion-base-8M", "potion-base-8M"),
        ("lucene:./indexes/scifact", "scifact"),
        ("lucene:beir-v1.0.0-scifact.flat", "beir-v1.0.0-scifact.flat"),
        ("search:elasticsearch", "elasticsearch"),
        ("search:./engines/shop.v2.yaml", "shop.v2"),
        ("search:shop.yml", "shop"),
        ("http://localhost:8080/v1#letters", "letters"),
        ("https://host/v1#intfloat/e5-base-v2", "e5-base-v2"),
        ("https://host/v1#nomic-embed-text:latest", "nomic-embed-text-latest"),
        ("hf:/x/bm25", "hf-bm25"),  # the name of another retriever is not taken
        ("https://host/v1#org/dupmae", "https-dupmae"),
        ("hf:dupmae-mini", "hf-dupmae-mini"),
    ],
)
def test_the_word_for_a_name(name, word):
    assert naming.usual(name) == word
    assert RetrieverSpec(name=name).label == word
    assert RetrieverSpec(name=name, rerank={"checkpoint": "x"}).label == f"{word}+rerank"
    assert RetrieverSpec(name=name, rerank={"checkpoint": "x"}).whole == f"{name}+rerank"


def test_a_folder_without_a_name_of_its_own_is_found_where_it_lies(here, monkeypatch):
    monkeypatch.chdir(here / "a" / "m")
    for name in ("hf:.", "hf:./", "st:../m/../../a/m", "lucene:../../a/m"):
        assert naming.usual(name) == "m"
    assert naming.usual("hf:..") == "a"
    monkeypatch.setenv("HOME", str(here / "b"))
    assert naming.usual("st:~") == "b"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bm25", "bm25 is a retriever of its own (`harness list retrievers`). Give another name."),
        ("hf:x", "hf:x is a retriever of its own"),
        (
            "a b",
            "the name 'a b' is no word. Want 1 to 100 letters, digits and _ . + - (first and last no . or -), such",
        ),
        ("x/y", "such as x-y."),
        (".x", "such as x."),
        ("", "the name '' is no word"),
        ("x" * 101, "is no word. Want 1 to 100 letters"),
    ],
)
def test_names_that_are_refused(here, bad, name, message):
    assert message in bad("run", "-r", "coordination", "-d", "col", "--name", name)
    (here / "c.yaml").write_text(json.dumps({"retrievers": [{"name": "coordination", "called": name}]}))
    said = bad("run", "-c", "c.yaml")
    assert "c.yaml: retrievers.0.called: " in said
    assert message in said
    with pytest.raises(InputError, match=re.escape(message)):
        harness.run("coordination", "col", name=name)


def test_a_name_is_of_one_retriever(here, bad):
    message = bad("run", "-r", "bm25", "-r", "coordination", "--name", "x")
    assert (
        "--name x is of one retriever, and 2 are named: bm25, coordination. Leave it out, or write `called: " in message
    )
    (here / "c.yaml").write_text("retrievers: [bm25]")
    assert "--name needs --retriever; in a --config write `called: NAME`" in bad("run", "-c", "c.yaml", "--name", "x")
    (here / "d.yaml").write_text("retrievers: [{name: bm25, called: 3}]")
    assert "retrievers.0.called: Input should be a valid string, got 3" in bad("run", "-c", "d.yaml")


def test_a_model_of_a_folder_goes_by_its_last_part_everywhere(here, model, cli):
    answer = cli("run", "-r", model, "-d", "col", *METRICS)
    assert answer.code == 0, answer.err
    [folder] = (here / "results").glob("[!.]*/*/*")
    assert folder.parts[-3:-1] == ("col-test", "m")
    assert f"wrote results/col-test/m/{folder.name}" in answer.out
    assert rows(answer.out) == [("col/test", "m (CLS:16, OT:12)")]
    assert rows(cli("list", "runs").out) == [(f"col/test {folder.name}", "m (CLS:16, OT:12)")]
    assert tags(folder) == {f"m-{folder.name}"}
    [facts] = json.loads(cli("list", "runs", "--json").out)
    assert (facts["name"], facts["retriever"]) == ("m", model)
    system = json.loads((folder / records.MANIFEST).read_text())["system"]
    assert (system["retriever"], system["called"]) == (model, "m")
    run = harness.read(folder)
    assert (run.name, run.tag) == ("m", f"m-{folder.name}")
    assert repr(run).startswith("<m (CLS:16, OT:12) on col/test:")
    assert "name: m\n" in run.to_trec("run.trec", header=True).read_text()
    assert str(here / "a") not in answer.out + cli("list", "runs").out
    assert [one.label for one in choose(None, here / "results", None, ["m"], None)] == ["m (CLS:16, OT:12)"]
    assert harness.retrieve(model, "col", {"x": "sea"}).name == "m"


def test_a_name_that_is_given(here, model, cli):
    """It is the record's in place of the retriever's own; `--checkpoint` on a system of the catalog gives it none."""
    plain = harness.run(model, "col")
    assert cli("run", "-r", model, "-d", "col", "--name", "mine", *METRICS).code == 0
    [folder] = (here / "results").glob("col-test/mine/*")
    system = records.read(folder).manifest.system
    assert (system.retriever, system.called, folder.name != plain.folder.name) == (model, "mine", True)
    again = harness.run(model, "col", name="mine", metrics=["NDCG@10"])
    assert (again.folder.resolve(), again.name) == (folder.resolve(), "mine")
    assert harness.run(model, "col", name="m").folder == plain.folder  # the name that it has anyway
    values = {"retrievers": [{"name": model, "called": "mine"}], "datasets": ["col"], "metrics": ["NDCG@10"]}
    (here / "c.yaml").write_text(json.dumps(values))
    assert f"found results/col-test/mine/{folder.name}" in cli("run", "-c", "c.yaml").out
    assert cli("compare", "col-test/m", "col-test/mine").code == 0
    named = harness.run("dupmae", "col", checkpoint=str(here / "a" / "m"))
    assert (named.name, named.folder.parent.name, named.manifest.system.called) == ("dupmae", "dupmae", None)
    assert harness.run("coordination", "col", name="words").folder.parent.name == "words"


def test_records_of_catalog_retrievers_say_no_other_name(here):
    folder = harness.run("coordination", "col").folder
    assert "called" not in json.loads((folder / records.MANIFEST).read_text())["system"]


def test_two_models_of_one_name(here, cli):
    """The hash of their weights tells them apart, the same on every collection."""
    write_beir(here / "other", docs=DOCS[:2], qrels={"test": [("q1", "d1", 1)]})
    names = [f"hf:{here / place / 'm'}" for place in "ab"]
    words = ("-r", names[0], "-r", names[1], "-d", "col", "-d", "other")
    answer = cli("run", *words, *METRICS)
    assert answer.code == 0, answer.err
    folders = sorted((here / "results").glob("[!.]*/m/*"))
    assert len({folder.name for folder in folders}) == 4
    weights = [harness.run(name, "col", metrics=["NDCG@10"]).manifest.system.checkpoint_hash[:7] for name in names]
    labels = [f"m (CLS:16, OT:12, weights {one})" for one in weights]
    assert rows(answer.out) == [(f"{name}/test", one) for name in ("col", "other") for one in labels]
    assert sorted(label for _, label in rows(cli("list", "runs").out)) == sorted(labels * 2)
    drawn = choose(None, here / "results", None, None, None)
    assert sorted(one.label for one in drawn) == sorted(labels * 2)
    runs = [harness.run(name, "col", metrics=["NDCG@10"]) for name in names]
    compared = harness.compare(*runs)
    assert compared.names == tuple(labels)
    assert {name: record.folder for name, record in compared.records.items()} == {
        label: run.folder for label, run in zip(labels, runs, strict=True)
    }
    message = cli("compare", "col-test/m", "other-test/m").err
    assert "'col-test/m' is 2 records. Name one by its hash" in message
    fused = harness.fuse(*runs)
    assert [part.name for part in fused.manifest.system.fused] == labels
    assert fused.manifest.system.variant == f"rrf k = 60 of {labels[0]} + {labels[1]}"


def test_what_has_no_weights_is_told_apart_by_the_records_hash(here, cli):
    """Two retrievers by one name, of which nothing else is known; one by that name elsewhere is the same system."""
    write_beir(here / "other")
    words = ("-d", "col", "--name", "x", *METRICS)
    assert cli("run", "-r", "coordination", "-d", "other", *words).code == 0
    assert cli("run", "-r", "bm25", *words).code == 0  # of the variant `flat`, so its label is another anyway
    assert sorted({label for _, label in rows(cli("list", "runs").out)}) == ["x", "x (flat)"]
    results = {"q1": {"d1": 1.0}}

    def function(queries, corpus, k):
        return results

    mine = harness.run(function, "col", name="x", metrics=["NDCG@10"])
    plain = harness.run("coordination", "col", name="x", metrics=["NDCG@10"])
    labels = [label for _, label in rows(cli("list", "runs").out)]
    assert {f"x {mine.folder.name}", f"x {plain.folder.name}", "x (flat)"} <= {*labels}
    assert (len({*labels}), len(labels)) == (
        3,
        4,
    )  # equal collections: the record on `other` has the hash of that on `col`


def test_the_weights_of_two_models_of_one_name_are_tuned(here):
    write_beir(here / "split", qrels={"dev": [("q1", "d1", 1)], "test": [("q2", "d3", 1)]})
    names = [f"hf:{place}/m" for place in "ab"]
    tuned = harness.tune([*names, "coordination"], "split/dev", ["split"], step=0.5, metrics=["NDCG@10"])
    assert all(list(point) == [*names, "coordination"] and sum(point.values()) == 1 for point, _ in tuned.grid)
    [result] = tuned.results
    assert [part.weight for part in result.manifest.system.fused] == list(tuned.chosen.values())
    one = harness.tune([names[0], "coordination"], "split/dev", step=0.5)
    assert list(one.chosen) == ["m", "coordination"]


def test_options_of_a_model_are_tuned_under_its_name(here, model):
    write_beir(here / "split", qrels={"dev": [("q1", "d1", 1)], "test": [("q2", "d3", 1)]})
    tuned = harness.tune(model, "split/dev", ["split"], grid={"lexical_scale": [0.5, 2.0]}, metrics=["NDCG@10"])
    [result] = tuned.results
    assert result.folder.parent.name == "m"
    assert tags(result.folder) == {f"m-{result.folder.name}"}


def test_a_fusion_names_its_parts_by_words(here, model):
    fused = harness.fuse(harness.run(model, "col"), harness.run("coordination", "col"))
    assert [part.name for part in fused.manifest.system.fused] == ["m (CLS:16, OT:12)", "coordination"]
    assert fused.manifest.system.variant == "rrf k = 60 of m + coordination"


def test_a_reranked_model_keeps_its_name(here, model):
    own(here / "teacher")
    run = harness.run(model, "col", rerank="teacher", depth=2)
    assert run.folder.parts[-3:-1] == ("col-test", "m+rerank")
    assert (run.manifest.system.retriever, run.name) == (f"{model}+rerank", "m+rerank")
    named = harness.run(model, "col", rerank="teacher", depth=2, name="mine")
    assert named.folder.parent.name == "mine+rerank"
    assert named.folder.name != run.folder.name
    before = as_before(run.record)
    found = harness.run(model, "col", rerank="teacher", depth=2)
    assert (found.folder, found.name) == (before, "m+rerank")


def key_of(model, spec):
    """What a record of `hf:` was named by before names were words, written out."""
    retriever = harness.runs.config.make_retriever(spec)
    [dataset] = harness.datasets.loader.resolve("col")
    dataset.open(harness.runtime.job.HarnessJob(Path("cache")))
    key = {
        "schema": 2,
        "retriever": model,
        "options": retriever.options.model_dump(mode="json"),
        "fingerprint": retriever.fingerprint(),
        "packages": {name: version(name) for name in retriever.packages},
        "hashes": [dataset.content_hash, dataset.queries_hash, dataset.qrels_hash],
        "rules": dataset.rules.key,
        "top_k": 1000,
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:10]


def test_a_record_under_the_whole_name_is_found(here, model, cli, monkeypatch):
    run = harness.run(model, "col")
    assert run.folder.name == key_of(model, RetrieverSpec(name=model))
    before = as_before(run.record)
    whole = before.parent.name
    assert whole == "hf-" + "-".join((here / "a" / "m").parts[1:])
    monkeypatch.setattr("harness.runs.searches.Searches.run", lambda *_: pytest.fail("searched again"))
    again = cli("run", "-r", model, "-d", "col")
    assert f"found results/col-test/{whole}/{before.name}" in again.out
    assert rows(again.out) == [("col/test", "m (CLS:16, OT:12)")]
    assert harness.run(model, "col").tag == f"m-{before.name}"
    assert not (here / "results" / "col-test" / "m").exists()
    other = harness.score(exchange.to_dict(harness.read(before).run), "col", name="as-given")
    for word in (
        f"col-test/{whole}",
        "col-test/m",
        "col/test/m",
        f"col-test/m/{before.name}",
        before.name,
        str(before),
    ):
        answer = cli("compare", word, other.folder)
        assert answer.code == 0, answer.err
        assert "m (CLS:16, OT:12)" in answer.out
    assert [one.label for one in choose(["col-test/m"], here / "results", None, None, None)] == ["m (CLS:16, OT:12)"]


def test_a_record_under_the_whole_name_is_redone_in_its_place(here, model):
    before = as_before(harness.run(model, "col").record)
    again = harness.run(model, "col", force=True)
    assert (again.folder, again.manifest.system.called) == (before, "m")
    assert [folder.parent.name for folder in (here / "results").glob("[!.]*/*/*")] == [before.parent.name]


def test_a_new_record_is_found_by_the_whole_name_as_well(here, model, cli):
    harness.run(model, "col")
    harness.run("coordination", "col")
    whole = "hf-" + "-".join((here / "a" / "m").parts[1:])
    assert cli("compare", "col-test/coordination", f"col-test/{whole}").code == 0
    harness.run("coordination", "col", name="words")
    assert cli("compare", "col-test/coordination", "col-test/words").code == 0  # `coordination` is one of the two alone


def test_a_fusion_of_records_of_before_is_found(here, model, monkeypatch):
    """Its parts have another name now, and are the same runs."""
    parts = [harness.run(model, "col"), harness.run("coordination", "col")]
    first = harness.fuse(*parts)
    path = first.folder / records.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["system"]["fused"][0]["name"] = f"{model} (CLS:16, OT:12)"
    path.write_text(json.dumps(manifest))
    monkeypatch.setattr(fusion, "fuse", lambda *_, **__: pytest.fail("fused again"))
    assert harness.fuse(*parts).folder == first.folder
    assert Recipe().options == {"method": "rrf", "k": 60}


def test_a_suites_mean_goes_by_the_word_and_is_found_by_either(here, model, cli, monkeypatch):
    monkeypatch.setitem(SUITES, "two", ("hf:o/x", "hf:o/y"))
    monkeypatch.setenv("HARNESS_HOME", str(here / "home"))
    for name in "xy":
        queries, qrels = [(f"{name}1", "red apples"), (f"{name}2", "sea water")], [(f"{name}1", "d1", 1)]
        qrels.append((f"{name}2", "d3", 1))
        write_nano(here / "home" / "datasets" / "hf" / "o" / name, queries=queries, qrels=qrels)
    words = ("run", "-d", "two", *METRICS, "-r", model)
    answer = cli(*words, "-r", "coordination")
    assert answer.code == 0, answer.err
    assert [label for dataset, label in rows(answer.out) if dataset.startswith("two")] == [
        "m (CLS:16, OT:12)", "coordination",
    ]  # fmt: skip
    results = here / "results"
    [path] = (results / "two").glob("m-*.json")
    assert json.loads(path.read_text())["retriever"] == model
    whole = "hf-" + "-".join((here / "a" / "m").parts[1:])
    digest = path.stem.removeprefix("m-")
    for word in ("two/m", f"two/m-{digest}", f"two/{whole}", f"two/{whole}-{digest}"):
        assert suites.find(word, results) == path
    assert suites.find("two/other", results) is None
    before = path.rename(path.with_name(f"{whole}-{digest}.json"))
    content = json.loads(before.read_text())
    del content["name"]
    before.write_text(json.dumps(content))
    for word in ("two/m", f"two/{whole}"):
        assert suites.find(word, results) == before
    assert cli(*words).code == 0
    assert [one.name for one in (results / "two").glob("*m-*.json")] == [before.name]
    assert cli("compare", "two/coordination", "two/m").code == 0


def test_a_damaged_record_is_still_named_by_its_folder(here, cli):
    folder = harness.run("coordination", "col").folder
    other = harness.run("bm25", "col").folder
    (folder / records.MANIFEST).write_text("[]")
    assert "not a readable record" in cli("compare", "col-test/coordination", "col-test/bm25").err
    shutil.rmtree(other)
