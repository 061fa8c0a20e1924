"""What systems go by where they are shown: of records that do not say it, and of several that share a name."""

import pytest

from harness.reports.records.labels import label, labels, name_of, told_apart, unique
from harness.reports.records.names import FAMILIES, aliases, short, slug
from harness.reports.records.origin import RunFile
from harness.retrievers import registry
from tests.support import records as made

WHERE = made.on("SciFact", 0.5)


@pytest.fixture
def record(tmp_path):
    """Write a record of a system like BM25, with other fields of its system, in a folder of that name."""

    def write(folder, **changes):
        who = made.bm25().model_copy(update={"variant": "flat", **changes})
        return made.write(tmp_path / folder, who, *WHERE)

    return write


def test_every_family_of_names_is_known_to_reports():
    registry.available()
    assert {*FAMILIES} == {*registry._prefixes}


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("hf:/x/my model", "my-model"),
        ("hf:./m/+rerank", "m+rerank"),
        ("https://h/v1#org/m+rerank", "m+rerank"),
        ("hf:.", "unnamed"),  # nothing says any more which folder that was
        ("bm25+rerank", "bm25+rerank"),
        ("my run: a/b", "my run: a/b"),
    ],
)
def test_the_word_for_a_record_that_does_not_say_it(record, name, word):
    assert short(name) == name_of(record("a", retriever=name).manifest.system) == word
    assert label(record("a", retriever=name).manifest) == f"{word} (flat)"


def test_what_is_said_comes_first_and_a_run_that_was_given_keeps_its_name(record):
    assert name_of(record("a", retriever="hf:/x/m", called="mine").manifest.system) == "mine"
    file = RunFile(location="/x", sha256=None, tag="hf:/x/m", deepest=1)
    assert name_of(record("b", retriever="hf:/x/m", file=file).manifest.system) == "hf:/x/m"


def test_what_records_are_asked_for_by():
    assert aliases("hf:/x/m", None) == {"m", "hf-x-m"}
    assert aliases("hf:/x/m", "mine") == {"mine", "hf-x-m"}
    assert aliases("bm25", "mine") == {"mine"}
    assert slug("..a b/-") == "a-b"


def test_systems_of_one_name_are_told_apart(record):
    """By seven letters of their weights; by the record's hash where those are alike, or one has none."""
    a, b = (record(n, retriever=f"hf:/{n}/m", checkpoint_hash=n * 64) for n in "ab")
    assert labels([a, b, a]) == [f"m (flat, weights {n * 7})" for n in "aba"]
    assert labels([a, a]) == ["m (flat)"] * 2
    assert told_apart(["x", "x"], [a, b]) == ["x (weights aaaaaaa)", "x (weights bbbbbbb)"]
    same = record("c", retriever="st:/a/m", checkpoint_hash="a" * 64)
    assert labels([a, same]) == ["m (flat) a", "m (flat) c"]
    indexes = [record(f"i{n}", retriever=f"lucene:{n}/m", checkpoint_hash=n * 64) for n in "cd"]
    assert labels(indexes) == ["m (flat, index ccccccc)", "m (flat, index ddddddd)"]
    none = record("d", retriever="search:/d/m.yaml", checkpoint_hash=None)
    assert labels([a, none]) == ["m (flat) a", "m (flat) d"]
    assert labels([none, record("e", retriever="search:/e/m.yaml", checkpoint_hash=None)]) == [
        "m (flat) d",
        "m (flat) e",
    ]


def test_no_two_of_several_records_are_called_alike(record):
    one, other, elsewhere = record("r/1"), record("r/2"), record("s/2")
    assert unique([one, other]) == ["anything (flat) 1", "anything (flat) 2"]
    assert unique([other, elsewhere]) == [f"anything (flat) 2 {record.folder}" for record in (other, elsewhere)]
    assert unique([one]) == ["anything (flat)"]
