"""Encoding and search on the pretended GPU: the scores are a CPU's; run by test_pretended_cuda.py."""

import pytest
import torch

import harness
from harness.models import hybrid
from harness.models.checkpoints import checkpoint
from harness.retrievers.encoding.encode import TextEncoder
from harness.retrievers.run_files import trec
from harness.retrievers.types import Document
from tests.support import late, tiny
from tests.support.cross_encoders import own

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    tiny.save_hybrid(place / "hybrid", dense=16, lexical=12)
    tiny.save_hybrid(place / "dense", dense=32, lexical=0, pooling="mean", similarity="cosine")
    tiny.save_hybrid(place / "lexical", dense=0, lexical=8)
    late.save(place / "late", query_maxlen=16, doc_maxlen=60)
    own(place / "pairs")
    return place


SYSTEMS = {
    "hybrid": ("dupmae", {"checkpoint": "hybrid"}),
    "half of the hybrid": ("dupmae", {"checkpoint": "hybrid", "lexical": 0}),
    "lexical": ("dupmae", {"checkpoint": "lexical"}),
    "dense": ("hf:dense", {}),
    "late interaction": ("colbertv2", {"checkpoint": "late"}),
    "late interaction, re-ranking": ("colbertv2", {"checkpoint": "late", "first_stage": "bm25"}),
}


def ranked(name, device, place, **options):
    options = {"precision": "fp32"} | options
    record = harness.run(name, "mini", results=place / device, top_k=300, threads=1, device=device, **options)
    assert record.manifest.system.options["device"] == device
    found = trec.read(record.folder / "run.trec.gz")
    rows = (found.rows(number) for number in range(len(found)))
    return {
        query: dict(zip((doc.decode() for doc in ids), values.tolist(), strict=True))
        for query, (ids, values) in zip(found.query_ids, rows, strict=True)
    }


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_scores_of_a_retriever(name, models, tmp_path, monkeypatch):
    monkeypatch.chdir(models)
    system, options = SYSTEMS[name]
    ours = ranked(system, "cuda", tmp_path, **options)
    for query, expected in ranked(system, "cpu", tmp_path, **options).items():
        assert ours[query] == pytest.approx(expected, rel=1e-3, abs=2e-3)


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"engine": "torch"}], ids=str)
def test_options_of_a_hybrid(options, models, tmp_path, monkeypatch):
    monkeypatch.chdir(models)
    ours = ranked("dupmae", "cuda", tmp_path, checkpoint="hybrid", **options)
    whole = ranked("dupmae", "cpu", tmp_path, checkpoint="hybrid")
    for query, expected in whole.items():
        best = next(iter(expected.values()))
        assert next(iter(ours[query].values())) == pytest.approx(best, rel=0.05)


def test_titles_as_the_first_of_two_segments(models):
    """Token types are on the device as well."""
    docs = [Document("a", "red apples", "grow on trees"), Document("b", "", "the sea")]
    found = []
    for device in ("cuda", "cpu"):
        loaded = checkpoint.load(models / "hybrid", hybrid.read(models / "hybrid"))
        loaded.encoder.to(device)
        encoder = TextEncoder(loaded, torch.device(device), "typed pair")
        found.append(encoder.documents(docs, lambda _: None).dense.astype(float))
    assert found[0] == pytest.approx(found[1], abs=2e-3)
    assert found[0][0].any()


def test_a_cross_encoder_orders_again_what_bm25_found(models, tmp_path, monkeypatch):
    monkeypatch.chdir(models)
    found = {}
    for device in ("cuda", "cpu"):
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda there=device == "cuda": there)
            record = harness.run("bm25", "mini", results=tmp_path / device, rerank="pairs", depth=20, threads=1)
        found[device] = record.metrics["NDCG@10"]
    assert found["cuda"] == pytest.approx(found["cpu"], abs=1e-3)


def test_the_random_numbers_of_a_caller_go_on(models, tmp_path, monkeypatch):
    monkeypatch.chdir(models)
    torch.cuda.manual_seed(7)
    expected = torch.rand(3, device="cuda").tolist()
    torch.cuda.manual_seed(7)
    harness.run("hf:dense", "mini", results=tmp_path, threads=1)
    assert torch.rand(3, device="cuda").tolist() == expected


def test_what_the_device_refuses():
    """The pretended device itself: were it lenient, the other tests here would say nothing."""
    here, there = torch.ones(3, 3), torch.ones(3, 3, device="cuda")
    for mixed in (
        lambda: here + there,
        lambda: there @ here,
        lambda: torch.cat([here, there]),
        lambda: there.index_select(0, torch.tensor([0])),
        lambda: torch.where(there > 0, there, here),
        lambda: here[there[0].long()],
        lambda: there.gather(1, torch.zeros(3, 1, dtype=torch.long)),
        lambda: torch.nn.functional.embedding(torch.tensor([1]), there),
        lambda: there.masked_fill(here > 0, 0.0),
        lambda: torch.nn.functional.cross_entropy(there, torch.tensor([0, 1, 2])),
        lambda: torch.empty(3, 3).copy_(there, non_blocking=True),
        lambda: there.multinomial(1, generator=torch.Generator()),
    ):
        with pytest.raises(RuntimeError, match=r"device|host"):
            mixed()
    with pytest.raises(TypeError, match="convert cuda:0 device type tensor to numpy"):
        there.numpy()
    assert there[torch.tensor([0, 2])].shape == (2, 3)  # as a GPU does
    assert (there + torch.tensor(1.0)).sum().item() == 18
    assert torch.empty(4, device="cuda").isnan().all()  # memory holds nothing until it is written
