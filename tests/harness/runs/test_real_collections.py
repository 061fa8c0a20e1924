"""BM25 on real collections gives the numbers that the field has for it."""

import pytest

from harness.datasets.loader import resolve
from harness.reports.tables import builder
from harness.runs.config import build
from harness.runs.runner import run
from tests.support.hub import write_mteb


@pytest.mark.parametrize(
    ("dataset", "fields", "ndcg"),
    [
        # flat: Anserini's own figures; multifield: the same, and the paper's Table 2 (0.665 and 0.325)
        ("beir/scifact", "flat", 0.6789),
        ("beir/scifact", "multifield", 0.6647),
        ("beir/nfcorpus", "flat", 0.3218),
        ("beir/nfcorpus", "multifield", 0.3254),
    ],
)
def test_ndcg_at_10(ir_home, tmp_path, dataset, fields, ndcg):
    config = {"retrievers": [{"name": "bm25", "options": {"fields": fields}}], "datasets": [dataset]}
    [outcome] = run(build({**config, "results": tmp_path}, "test"), ["test"])
    assert outcome.record.metrics["NDCG@10"] == pytest.approx(ndcg, abs=0.0005)
    filled = [(row.table, row.row) for row in outcome.record.manifest.system.paper_rows]
    assert filled == ([(2, "BM25")] if fields == "multifield" else [])
    cell = builder.build(2, [outcome.record]).cells["BM25", {"beir/scifact": "SciFact"}.get(dataset, "NFCorpus")]
    assert cell.status == ("reproduced" if fields == "multifield" else "not run")


def test_a_real_folder(real, tmp_path):
    config = build({"retrievers": ["bm25"], "datasets": [str(real / "msmarco-dl19-mini")], "results": tmp_path}, "test")
    [outcome] = run(config, ["test"])
    assert 0.5 < outcome.record.metrics["NDCG@10"] < 1
    assert outcome.record.manifest.data.counts["queries"] == 43


def test_a_real_collection_in_the_layout_of_mteb(ir_home, tmp_path):
    """As Parquet it has the figure that Anserini has of BEIR's own files."""
    [plain] = resolve("beir/nfcorpus")
    rows = [(q, d, g) for q, d, g in plain.source.qrels()]
    folder = write_mteb(
        tmp_path / "nfcorpus", "parquet", docs=plain.source.documents(), queries=plain.source.queries(),
        qrels={"test": rows},
    )  # fmt: skip
    config = build({"retrievers": ["bm25"], "datasets": [f"hf:{folder}"], "results": tmp_path / "results"}, "test")
    [outcome] = run(config, ["test"])
    assert outcome.record.metrics["NDCG@10"] == pytest.approx(0.3218, abs=0.0005)
