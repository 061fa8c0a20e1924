"""Queries that a model writes: by both kinds of model, kept block by block, refused before anything is read."""

import json

import pytest
import torch

from harness.models.checkpoints.weights import quiet
from harness.models.errors import CheckpointError
from harness.retrievers.types import Document
from harness.runtime.job import HarnessJob
from harness.training.data import written_queries
from harness.training.data.written_queries import QueryWriter, check, queries
from harness.training.recipe_data import Writer
from tests.support import families
from tests.support.writers import gpt2, t5

DOCS = [
    Document(f"d{n}", "", text) for n, text in enumerate(("red apples grow on trees", "green pears", "a river") * 7)
]


@pytest.fixture(params=[t5, gpt2])
def model(request, tmp_path):
    with quiet():
        return request.param(tmp_path / "writer")


def test_each_text_has_its_queries_and_they_are_kept(model, tmp_path, monkeypatch):
    """The second time no model is loaded, but for the block that is damaged, which is written as before."""
    writer, job = Writer(model=str(model), each=3, tokens=6), HarnessJob(tmp_path / "cache", 1)
    found = list(queries(writer, DOCS, 1, job))
    assert len(found) == len(DOCS)
    assert all(0 < len(own) <= 3 and len(set(own)) == len(own) for own in found)
    assert all("\n" not in query and query == query.strip() for own in found for query in own)
    assert found[0] != found[3]  # the same text, drawn anew
    kept = sorted((tmp_path / "cache").rglob("*.json"))
    assert len(kept) == 2  # blocks of 16

    loads = []
    true = QueryWriter.__init__
    monkeypatch.setattr(QueryWriter, "__init__", lambda self, *words: (loads.append(1), true(self, *words))[1])
    assert list(queries(writer, DOCS, 1, job)) == found
    assert not loads
    before = kept[0].read_text()
    kept[0].write_text(before.replace('"queries": [[', '"queries": [["changed", '))
    assert list(queries(writer, DOCS, 1, job)) == found
    assert loads == [1]
    assert kept[0].read_text() == before
    assert list(queries(writer, DOCS, 2, job)) != found


def test_a_causal_model_is_asked_by_the_prompt_and_answers_with_what_follows(tmp_path, monkeypatch):
    """The model is made to say its prompt's last token and an end: nothing of the prompt comes back."""
    with quiet():
        writer = QueryWriter(Writer(model=str(gpt2(tmp_path / "w")), tokens=5, prompt="fish {text} money"))
    seen = []

    def generate(input_ids, **options):
        seen.append((input_ids, options))
        answer = writer.tokenizer(["red apples", "green [SEP]"], add_special_tokens=False, padding=True)["input_ids"]
        return torch.cat((input_ids, torch.tensor(answer)), dim=1)

    monkeypatch.setattr(writer.model, "generate", generate)
    assert writer.write(["pears", "water runs to the sea"], 0) == [["red apples"], ["green"]]
    [(ids, options)] = seen
    asked = [" ".join(line.split()) for line in writer.tokenizer.batch_decode(ids)]
    assert asked[1].endswith("fish water runs to the sea money [SEP]")
    assert asked[0].startswith("[PAD]")  # padded on the left, so that the answer follows the prompt
    assert (options["do_sample"], options["top_k"], options["max_new_tokens"]) == (True, 10, 5)


def test_a_long_text_is_cut_and_the_prompt_stays(tmp_path):
    with quiet():
        writer = QueryWriter(Writer(model=str(gpt2(tmp_path / "w")), prompt="{text} money"))
    asked = writer._asked("fish " * 1_000)
    assert asked.split() == [*["fish"] * 384, "money"]


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda place: families.save(place, "bert"), r"is a 'bert' model \(BertForMaskedLM\), which writes no text"),
        (lambda place: place / "nothing", "is not a folder. Name a Hugging Face model folder"),
        (lambda place: (place.mkdir(), (place / "config.json").write_text("{}"))[0], "cannot be loaded"),
    ],
)
def test_what_writes_no_text(make, part, tmp_path):
    with quiet():
        make(tmp_path / "w")
    with pytest.raises(CheckpointError, match=part):
        check(Writer(model=str(tmp_path / "w")))


def test_weights_that_are_not_there_are_an_error_of_one_line(tmp_path):
    with quiet():
        gpt2(tmp_path / "w")
    (tmp_path / "w" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"the query generator .* cannot be loaded") as caught:
        QueryWriter(Writer(model=str(tmp_path / "w")))
    assert "\n" not in str(caught.value)


def test_a_model_that_fails_while_writing_is_an_error_of_one_line(tmp_path, monkeypatch):
    with quiet():
        writer = QueryWriter(Writer(model=str(gpt2(tmp_path / "w"))))

    def fails(**_words):
        raise RuntimeError("probability tensor contains nan")

    monkeypatch.setattr(writer.model, "generate", fails)
    with pytest.raises(CheckpointError, match=r"failed while writing \(probability tensor contains nan\)"):
        writer.write(["apples"], 0)


def test_few_positions_are_shared_by_text_prompt_and_query(tmp_path):
    """A model that reads 64 tokens, and a text of a thousand words."""
    with quiet():
        gpt2(tmp_path / "w", n_positions=64)
    [found] = QueryWriter(Writer(model=str(tmp_path / "w"), tokens=20)).write(["fish " * 1_000], 0)
    assert len(found) <= 1


def test_nothing_to_write_loads_nothing(tmp_path):
    job = HarnessJob(tmp_path, 1)
    assert list(queries(Writer(model="nowhere"), [], 1, job)) == []
    assert written_queries._read(tmp_path / "none.json", 1) is None
    (tmp_path / "none.json").write_text(json.dumps({"queries": 3}))
    assert written_queries._read(tmp_path / "none.json", 1) is None
