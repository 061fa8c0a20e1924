"""`harness bench gpu` on the pretended GPU, at sizes that only try it; run by test_pretended_cuda.py."""

import json
import os
import signal
import time

import pytest
import torch

from harness.bench import gpu, gpu_common, gpu_search
from harness.models.training.precision import automatic

pytestmark = pytest.mark.usefixtures("one_thread")
DEVICE = torch.device("cuda", 0)


def test_every_part_is_measured(cli, tmp_path):
    """All but torch.compile, which takes more than a minute; test_pretended_cuda.py has it."""
    answer = cli("bench", "gpu", "--tiny", "--minutes", 1, "--json", "found.json")
    assert answer.code == 0, answer.err
    found = json.loads((tmp_path / "found.json").read_text())
    rows = found["gpu"]["rows"]
    assert found["gpu"]["stopped"] == ""
    assert len(rows) == 15
    for what, row in rows.items():
        if "found" not in row and "torch.compile" not in what:
            assert row["value"] > 0, row
            assert row["peak_bytes"] > 10_000
        assert any(line.startswith(what) for line in answer.out.splitlines())
    assert rows["search, hybrid 8 + 8, exact"]["against"] == "search, dense 32, float32 scores and top k"
    found = {what: row["found"] for what, row in rows.items() if "found" in row}
    one, other = map(float, found.pop("pre-training, loss of one batch, plain and ours").split(" and "))
    assert one == pytest.approx(other, rel=0.01)
    assert list(found.values()) == ["finite"] * 2 + ["as scores in float64 say"] * 2


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_what_was_measured_before_it_was_stopped_is_kept(cli, tmp_path, monkeypatch, asked):
    def stopped(*_arguments):
        os.kill(os.getpid(), asked)

    monkeypatch.setitem(gpu._PARTS, "fine-tuning", stopped)
    answer = cli("bench", "gpu", "--tiny", "--json", "found.json")
    assert answer.code == 128 + asked
    assert f"stopped by {asked.name}: the table is partial" in answer.out
    found = json.loads((tmp_path / "found.json").read_text())["gpu"]
    assert [*found["rows"]][-2:] == ["pre-training, plain: all logits [B,L,V]", "pre-training, ours"]
    assert found["stopped"] == asked.name
    assert found["device"] == "pretended"


def test_the_end_of_the_time_leaves_the_table(cli, tmp_path, monkeypatch):
    """Also within a step, which may take minutes."""
    monkeypatch.setattr(gpu_common.Clock, "left", 1.5)
    monkeypatch.setitem(gpu._PARTS, "pre-training", lambda *_: time.sleep(30))
    answer = cli("bench", "gpu", "--tiny", "--json", "found.json")
    assert answer.code == 0
    assert answer.out.splitlines()[-2] == "the time is over: the table is partial"


def test_a_device_that_is_lost_ends_it_with_what_there_is(cli, tmp_path, monkeypatch):
    def lost(_sizes, _kind, _device, table, _clock):
        with gpu_common.excused(table, "this", "x/s"):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setitem(gpu._PARTS, "fine-tuning", lost)
    answer = cli("bench", "gpu", "--tiny", "--json", "found.json")
    assert answer.code == 0
    assert "the GPU failed, and nothing runs on it any more (RuntimeError: CUDA error" in answer.out
    assert "illegal memory" in json.loads((tmp_path / "found.json").read_text())["gpu"]["rows"]["this"]["traceback"]


def test_one_warm_step_is_no_measurement():
    with pytest.raises(gpu_common.TooSlow, match="over after 1 steps, of which 1 only warm up"):
        gpu_common.paces(lambda: None, 5, 0.0)


def test_a_part_for_which_no_time_is_left(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_common.Clock, "left", 0.5)
    answer = cli("bench", "gpu", "--tiny", "--json", "found.json")
    assert answer.code == 0
    rows = json.loads((tmp_path / "found.json").read_text())["gpu"]["rows"]
    assert {row["note"] for row in rows.values()} == {"no time was left"}


@pytest.mark.parametrize(("dense", "lexical"), [(8, 8), (32, 0)])
def test_the_search_is_exact(dense, lexical):
    """Against all scores in float64."""
    corpus = gpu_search.Corpus(gpu_common.TINY, gpu_common.TINY.docs, dense, lexical, DEVICE)
    [queries] = corpus.queries()
    scores = torch.from_numpy(queries.dense).double() @ corpus.dense.cpu().double().T
    for query, weights in enumerate(queries.lexical):
        terms = torch.from_numpy(weights).double()[corpus.ids.cpu().long() & 0xFFFF] if lexical else torch.zeros(1, 0)
        scores[query] += (terms * corpus.weights.cpu().double()).sum(1) if lexical else 0.0
    for exact in (True, False):
        for query, (rows, found) in enumerate(corpus.search(queries, exact)):
            best, places = scores[query].topk(gpu_common.TINY.k)
            assert rows.tolist() == places.tolist()
            assert found.tolist() == pytest.approx(best.tolist(), rel=1e-6)


def test_both_ways_of_pre_training_have_one_objective():
    """The plain implementation that ours is compared with: its loss is ours."""
    from harness.bench.pretrain_step import Naive
    from harness.models.pretraining.config import PretrainConfig
    from harness.models.pretraining.mae import DupMAE, PretrainBatch
    from tests.support.training import pretrain

    [(batch, _)] = pretrain(batch=8, micro_batch=8).prepare(0)
    batch = PretrainBatch(*(part.to(DEVICE) for part in batch))
    config, found = PretrainConfig.paper("DupMAE"), []
    for of in (DupMAE, Naive):
        torch.manual_seed(5)
        found.append(of(gpu_common.bert(gpu_common.Sizes(32, 2, 4, 95)), config).to(DEVICE).eval()(batch))
    assert found[0].total.item() == pytest.approx(found[1].item(), rel=1e-5)
    assert automatic("cuda", training=True) == "bf16"
