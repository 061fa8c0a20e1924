"""ColBERTv2 end to end, from a checkpoint's folder to a record, on the embedded collection."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.datasets.loader import resolve
from harness.models.checkpoints import late, late_layouts
from harness.models.checkpoints.weights import tensors_only
from harness.retrievers import registry
from harness.retrievers.encoding import store
from harness.retrievers.encoding.token_vectors import TokenVectors
from harness.retrievers.errors import InputError
from harness.retrievers.late_interaction import first_stage
from harness.retrievers.late_interaction.encode import TokenEncoder
from harness.retrievers.late_interaction.retriever import LateInteraction, LateOptions
from harness.retrievers.places import cache
from harness.retrievers.run_files import trec
from harness.retrievers.types import Document, Query
from harness.runs.config import build
from harness.runs.runner import run
from harness.runtime.job import HarnessJob
from tests.support import late as small
from tests.support.datasets import write_beir

LENGTHS = {"query_maxlen": 16, "doc_maxlen": 60}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkpoint, and the runs of this module."""
    place = tmp_path_factory.mktemp("late")
    small.save(place / "m", **LENGTHS)
    return place


def go(place, name="colbertv2", results="results", dataset="mini", **options):
    if name == "colbertv2":
        options = {"checkpoint": str(place / "m")} | options
    config = {"retrievers": [{"name": name, "options": options}], "datasets": [dataset], "top_k": 300, "threads": 1}
    [outcome] = run(build({**config, "results": place / results, "metrics": ["NDCG@10"]}, "test"), ["test"])
    return outcome.record


def scores_of(record):
    found = trec.read(record.folder / "run.trec.gz")
    return {q: dict(zip([d.decode() for d in ids], scores.tolist(), strict=True))
            for q, (ids, scores) in zip(found.query_ids, map(found.rows, range(len(found))), strict=True)}  # fmt: skip


@pytest.fixture(scope="module")
def everywhere(place):
    return go(place)


def test_every_score_is_the_formula_over_the_checkpoint(place, everywhere, one_thread):
    """MaxSim by brute force over every tenth of the 300 documents, from vectors of texts encoded one by one."""
    [dataset] = resolve("mini", None)
    dataset.open(HarnessJob(place / "cache"))
    layout = late_layouts.read(place / "m")
    encoder = TokenEncoder(late.load(layout, layout.spec), torch.device("cpu"))
    docs = {
        doc.doc_id: encoder.documents([doc], lambda _: None).tokens.astype(float)
        for doc in [*dataset.documents()][::10]
    }
    found = scores_of(everywhere)
    assert len(found) == 100
    for query in dataset.queries[::20]:
        asked = encoder.queries([query]).tokens.astype(float)
        wanted = {doc_id: (asked @ own.T).max(axis=1).sum() for doc_id, own in docs.items()}
        assert len(found[query.query_id]) == 300
        for doc_id, score in wanted.items():
            assert found[query.query_id][doc_id] == pytest.approx(score, abs=5e-3)  # vectors are kept in 16 bits


def test_the_record_says_what_was_searched(place, everywhere):
    system = everywhere.manifest.system
    assert (system.system, system.variant, system.paper_rows) == ("ColBERTv2", "all documents", ())
    wanted = {"first_stage": "all", "depth": None, "encoded": "all", "width": 16, "query_length": 16, "attend": False}
    assert {name: system.options[name] for name in wanted} == wanted
    [shard] = store_of(place)
    vectors = store.read(shard.parent, header(place), 0, TokenVectors).vectors
    assert system.bytes_per_document == 2 * 16 * len(vectors.tokens) / 300
    assert system.options["estimated_gib"] == round(vectors.tokens.nbytes / 2**30, 3)
    assert {"encode", "search", "score"} <= set(everywhere.manifest.cost.seconds)


def test_a_folder_that_does_not_say_how_it_is_used_is_told(place, everywhere, tmp_path):
    """Without artifact.metadata colbert-ai's defaults stand in, and the record keeps that."""
    assert not any("artifact.metadata" in warning for warning in everywhere.manifest.warnings)
    shutil.copytree(place / "m", tmp_path / "m")
    assert not late_layouts.silent(late_layouts.read(tmp_path / "m"))
    (tmp_path / "m" / "artifact.metadata").unlink()
    assert late_layouts.silent(late_layouts.read(tmp_path / "m"))


def retriever(place, **options):
    return LateInteraction(LateOptions(checkpoint=str(place / "m"), **options))


def header(place, **options):
    [dataset] = resolve("mini", None)
    dataset.open(HarnessJob(place / "cache"))
    return retriever(place, **options).header(dataset)


def store_of(place, **options):
    return sorted((cache() / "stores" / header(place, **options).key[:20]).glob("shard-*"))


def test_candidates_are_ranked_as_among_all(place, everywhere, capsys):
    """Of BM25's 20 best of each query: these alone, with the very scores that they have among all documents."""
    bm25, whole = scores_of(go(place, "bm25")), scores_of(everywhere)
    capsys.readouterr()
    record = go(place, first_stage="bm25", depth=20)
    err = capsys.readouterr().err
    assert "MaxSim over the 20 best of bm25 (token vectors of all take about 0.00 GiB)" in err
    assert "depth: a query has 20 candidates, so it finds no more; 300 were asked for" in err
    assert "encoded shard" not in err  # the vectors of all documents are there
    found = scores_of(record)
    for query_id, scores in found.items():
        best = list(bm25[query_id])[:20]
        assert scores == {doc_id: whole[query_id][doc_id] for doc_id in best}
    assert any(len(scores) == 20 for scores in found.values())
    system = record.manifest.system
    assert (system.variant, system.options["first_stage"], system.options["depth"]) == ("over bm25 20", "bm25", 20)
    assert system.options["first_stage_options"].items() >= {"k1": 0.9, "b": 0.4, "fields": "flat"}.items()
    assert "pyserini" in system.options["first_stage_packages"]
    assert scores_of(go(place, depth=20)) == found


def test_of_a_large_corpus_candidates_alone_are_encoded(place, everywhere, capsys):
    """Here large is what takes over 10^-6 GiB. Nobody named a first stage, so it is BM25's 1,000, or all it has."""
    capsys.readouterr()
    record = go(place, exhaustive_gib=1e-6)
    err = capsys.readouterr().err
    assert "MaxSim over the 300 best of bm25" in err
    assert "more than the 1e-06 of exhaustive_gib" in err
    options = record.manifest.system.options
    assert (options["first_stage"], options["depth"], options["encoded"]) == ("bm25", 300, "candidates")
    whole, bm25 = scores_of(everywhere), scores_of(go(place, "bm25"))
    for query_id, scores in scores_of(record).items():
        assert scores.keys() == bm25[query_id].keys()
        for doc_id, score in scores.items():
            assert score == pytest.approx(whole[query_id][doc_id], abs=5e-3)
    deep = go(place, exhaustive_gib=1e-6, depth=3, results="deep")
    assert f"documents 0 to {len({d for s in scores_of(deep).values() for d in s}) - 1}" in capsys.readouterr().err


def test_what_a_kill_left_is_gone_on_with(place, everywhere, monkeypatch, capsys):
    """Cut down in its third shard of ten: two are kept, and the run is that of one that was left alone."""
    kept = TokenEncoder.documents
    calls = []

    def cut(self, docs, done):
        calls.append(len(docs))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return kept(self, docs, done)

    monkeypatch.setattr(TokenEncoder, "documents", cut)
    with pytest.raises(KeyboardInterrupt):
        go(place, shard_documents=30)
    assert [path.name for path in store_of(place, shard_documents=30)] == [
        "shard-00000.safetensors",
        "shard-00001.safetensors",
    ]
    monkeypatch.setattr(TokenEncoder, "documents", kept)
    capsys.readouterr()
    record = go(place, shard_documents=30)
    err = capsys.readouterr().err
    assert "2 of 10 shards are encoded already and are kept" in err
    assert err.count("encoded shard") == 8
    shards = store_of(place, shard_documents=30)
    before = [path.read_bytes() for path in shards]
    shards[4].write_bytes(before[4][:-1] + bytes([before[4][-1] ^ 1]))
    again = go(place, shard_documents=30, results="again")
    assert "shard-00004.safetensors is damaged" in capsys.readouterr().err
    assert [path.read_bytes() for path in shards] == before
    assert again.manifest.files["run.trec.gz"] == record.manifest.files["run.trec.gz"]
    found, whole = scores_of(record), scores_of(everywhere)
    assert all(found[query_id] == pytest.approx(whole[query_id], abs=5e-3) for query_id in list(whole)[:9])


class Side(HarnessJob):
    """One of two processes; what it gathers is what the other one said before."""

    def __init__(self, place, rank, said):
        super().__init__(place, threads=1)
        self.side, self.said, self.heard = rank, said, []

    rank = property(lambda self: self.side)
    processes = property(lambda self: 2)

    def gather(self, value):
        self.heard.append(value)
        return [value, self.said.pop(0)] if self.side == 0 else None


@pytest.mark.parametrize("options", [{}, {"depth": 20}, {"depth": 5, "exhaustive_gib": 1e-6}])
def test_two_processes_find_what_one_finds(place, tmp_path, options):
    [dataset] = resolve("mini", None)
    dataset.open(HarnessJob(place / "cache"))
    asked = dataset.queries[:10]
    options = {"shard_documents": 30} | options
    one = retriever(place, **options).search(dataset, asked, 50, HarnessJob(place / "cache", threads=1))
    second = Side(place / "cache", 1, [])
    retriever(place, **options).search(dataset, asked, 50, second)
    both = retriever(place, **options).search(dataset, asked, 50, Side(place / "cache", 0, second.heard))
    for name in ("offsets", "doc_ids", "scores"):
        np.testing.assert_array_equal(getattr(both, name), getattr(one, name))


def test_options_decide_the_vectors_and_the_record(place, everywhere):
    assert go(place, query_length=32).folder != everywhere.folder
    assert go(place, query_length=32).manifest.system.options["query_least"] == 32
    assert header(place, max_length=30).key != header(place).key == header(place, query_length=32).key
    assert header(place, titles=False).key != header(place).key
    plain, deep = retriever(place).fingerprint(), retriever(place, first_stage="bm25").fingerprint()
    assert plain == deep
    assert retriever(place, first_stage="all").fingerprint() != plain


def test_a_part_of_a_corpus():
    class Corpus:
        name, count, content_hash = "c", 5, "h"

        def documents(self):
            return (Document(str(n), "", f"text {n}") for n in range(5))

    part = first_stage.Subset(Corpus(), np.array([1, 4]))
    assert [doc.doc_id for doc in part.documents()] == ["1", "4"]
    assert (part.count, part.name) == (2, "c")
    assert part.content_hash != first_stage.Subset(Corpus(), np.array([1, 3])).content_hash


def test_a_first_stage_that_makes_documents_up(place, job, tmp_path):
    class Odd(registry.Retriever):
        def identity(self): ...

        def search(self, corpus, queries, top_k, job):
            return trec.Run.of({query.query_id: {"nowhere": 1.0} for query in queries})

    class Corpus:
        name, count = "c", 1

        def documents(self):
            return iter([Document("d", "", "text")])

    with pytest.raises(InputError, match="'nowhere', which is not in c"):
        first_stage.candidates(Odd(registry.Options()), Corpus(), [Query("q", "text")], 5, job)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ["colbert-ir/colbertv2.0", "hf download", "--checkpoint FOLDER"]),
        (["--checkpoint", "plain"], ["no late-interaction checkpoint", "linear.weight"]),
        (["--checkpoint", "other"], ["other is a 'roberta' model, and ColBERTv2 is a 'bert' one"]),
        (["--checkpoint", "m", "-o", "titles=pair"], ["titles", "'space', 'separator' or 'none'"]),
        (["--checkpoint", "m", "--query-length", "400"], ["query_length is 400", "positions for 160"]),
        (["--checkpoint", "m", "-o", "first_stage=bm52"], ["unknown retriever 'bm52'", "Did you mean bm25"]),
        (["--checkpoint", "m", "-o", "first_stage=colbertv2"], ["is late interaction itself"]),
        (["--checkpoint", "m", "-o", "first_stage=all", "-o", "depth=9"], ["first_stage all scores every document"]),
        (["--checkpoint", "m", "-o", "first_stage_options={b: 1.0}"], ["first_stage_options need a first_stage"]),
        (
            ["--checkpoint", "m", "-o", "first_stage=bm25", "-o", "first_stage_options={c: 1}"],
            ["first_stage bm25: c: Extra inputs are not permitted", "k1, b, fields"],
        ),
        (
            ["--checkpoint", "m", "-o", "first_stage=condenser"],
            ["Condenser: its authors published the pre-training alone"],
        ),
        (["--checkpoint", "m", "-o", "depth=0"], ["depth", "greater than or equal to 1"]),
        (["--checkpoint", "m", "--pooling", "cls"], ["has the option 'pooling'"]),
    ],
)
def test_bad_input(place, tmp_path, bad, monkeypatch, words, said):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        "harness.retrievers.late_interaction.encode.TokenEncoder.documents", lambda *a: pytest.fail("it encoded")
    )
    shutil.copytree(place / "m", tmp_path / "m")
    shutil.copytree(place / "m", tmp_path / "plain")
    shutil.copytree(place / "m", tmp_path / "other")
    config = tmp_path / "other" / "config.json"
    config.write_text(config.read_text().replace('"model_type": "bert"', '"model_type": "roberta"'))
    state = tensors_only(tmp_path / "plain" / "model.safetensors")
    save_file({k: v for k, v in state.items() if k != "linear.weight"}, tmp_path / "plain" / "model.safetensors")
    message = bad("run", "-r", "colbertv2", *words, "-d", write_beir(tmp_path / "toy"))
    assert all(part in message for part in said), message
