"""Metrics by any name wherever one is named: the command line, records, Python, the docs, other packages."""

import json
import sys
from pathlib import Path

import pytest

import harness
from harness.datasets import rules
from harness.metrics import measure
from harness.metrics.measure import families
from harness.metrics.names import DEFAULT_METRICS, parse_metric, parse_metrics
from harness.metrics.scoring import score
from harness.retrievers.errors import InputError
from harness.retrievers.types import Run
from tests.support.datasets import write_beir
from tests.support.paths import ROOT


def folder(name):
    [found] = Path("results").glob(f"{name}/*")
    return found


def test_the_docs_have_every_metric():
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = []
    for family in families().values():
        others, settings = (
            ", ".join(f"`{n}`" for n in names) for names in (family.others, (f"{o}=" for o in family.options))
        )
        rows.append(
            f"| `{family.spelling}` | {others} | {settings} | {family.summary} | {family.by} | {family.source} |"
        )
    assert [line for line in page.splitlines() if line.startswith("| `")] == rows


def test_every_name_in_the_list_is_read(cli):
    listed = json.loads(cli("list", "metrics", "--json").out)
    assert [row["metric"] for row in listed] == [family.spelling for family in families().values()]
    for row in listed:
        name = row["metric"].partition("@")[0]
        for other in row["also"]:
            assert parse_metric(other.replace("@k", "@7").replace("_k", "_7")).family.name == name, other
    assert "trec_eval, by ir_measures" in cli("list", "metrics").out
    assert {str(metric) for metric in parse_metrics(DEFAULT_METRICS)} == set(DEFAULT_METRICS)


def test_a_run_is_scored_by_other_tools_names_and_found_again(cli, beir):
    names = ("-m", "RR@10", "-m", "recall_100", "-m", "map", "-m", "P(rel=2)@1", "-m", "RBP(p=0.5)")
    made = cli("run", "-r", "coordination", "-d", beir(), *names)
    assert made.code == 0, made.err
    assert made.out.splitlines()[0].split()[2:] == ["MRR@10", "R@100", "MAP", "P(rel=2)@1", "RBP(p=0.5)"]
    again = cli("run", "-r", "coordination", "-d", beir(), "-m", "mrr@10", "-m", "Recall@100", "-m", "AP")
    assert "found results" in again.out
    result = harness.read(folder("tiny-test/coordination"))
    assert result.metrics["MRR@10"] == result.metrics["RR@10"] == result.metrics["rr(rel=1)@10"]
    assert set(result.metrics) == {"MRR@10", "R@100", "MAP", "P(rel=2)@1", "RBP(p=0.5)"}
    assert "nDCG@10" not in result.metrics
    assert json.loads(json.dumps(result.metrics)) == dict(result.metrics)
    other = cli("run", "-r", "coordination", "-r", "bm25", "-d", beir(), "-m", "MRR@10", "-m", "MAP")
    assert other.code == 0, other.err
    for name in ("RR@10", "ap", "recip_rank(rel=1)@10"):
        answer = cli("compare", "tiny-test/coordination", "tiny-test/bm25", "-m", name)
        assert answer.code == 0, answer.err


def test_a_level_that_is_not_1_is_printed(cli, tmp_path, monkeypatch):
    """Level 2 of the collection: MRR@10 and MRR(rel=2)@10 are one measure, MRR(rel=1)@10 is another."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(rules.RULES, "beir/scidocs", rules.Rules(binary_level=2))
    write_beir(tmp_path / "home" / "datasets" / "beir" / "scidocs")
    words = ("-r", "coordination", "-d", "beir/scidocs", "-m", "MRR@10", "-m", "RR(rel=1)@10", "-m", "NDCG@10")
    made = cli("run", *words)
    assert made.out.splitlines()[0].split()[2:] == ["MRR(rel=2)@10", "MRR@10", "NDCG@10"]
    both = cli("run", *words[:2], "-d", write_beir(tmp_path / "plain"), *words[:4], "-m", "MRR@10")
    header, *rows = both.out.splitlines()[:3]
    assert header.split()[2:] == ["MRR@10", "MRR(rel=2)@10", "NDCG@10"]
    assert len(rows) == 2
    metrics = harness.read(folder("beir-scidocs/coordination")).metrics
    assert list(metrics) == ["MRR@10", "MRR(rel=1)@10", "NDCG@10"]
    assert metrics["MRR(rel=2)@10"] == metrics["MRR@10"] != metrics["MRR(rel=1)@10"]


def test_official_is_what_the_collection_is_reported_by(cli, beir):
    assert rules.official_for("msmarco-passage/trec-dl-2019/judged") == ("nDCG@10", "RR(rel=2)", "AP(rel=2)")
    assert rules.official_for("msmarco-passage/dev/small") == ("RR@10",)
    assert rules.official_for("beir/scifact/test") == ("NDCG@10", "R@100")
    made = cli("run", "-r", "coordination", "-d", beir(), "-d", "mini", "-m", "official", "-m", "P@5")
    assert made.out.splitlines()[0].split()[2:] == ["NDCG@10", "P@5"]
    for extra in ((), ("-m", "nope")):
        assert "unknown metric" in cli("compare", "mini/coordination", "tiny-test/coordination", "-m", "official").err
        assert ("unknown metric 'nope'" in cli("run", "-r", "bm25", "-m", "official", *extra, "-d", "x").err) == bool(
            extra
        )


def test_every_official_measure_of_ir_datasets_is_known():
    import ir_datasets

    seen = 0
    for name in ir_datasets.registry:
        for official in rules.official_for(name):
            assert parse_metric(official)
            seen += 1
    assert seen > 500


# --- of other packages

CODE = """
from harness.metrics.measure import Family
first_grade = Family(
    "FirstGrade", "FirstGrade", "the grade of the first result", "ours", "none", binary=False,
    ours=lambda run, metric, level: run.grades[:, 0].astype(float),
)
twice = Family("Twice", "RR", "another's name", "ours", "none")
renamed = Family("Other", "Other", "another name than its own", "ours", "none")
nothing = 3
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Metrics of an installed package, forgotten afterwards."""
    families()
    monkeypatch.setattr(measure, "_registered", dict(measure._registered))
    measure._load.cache_clear()

    def install(*points):
        about = tmp_path / "site" / "grades-1.dist-info"
        about.mkdir(parents=True)
        (tmp_path / "site" / "grades.py").write_text(CODE)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: grades\nVersion: 1\n")
        (about / "entry_points.txt").write_text("[harness.metrics]\n" + "".join(f"{point}\n" for point in points))
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    yield install
    measure._load.cache_clear()
    sys.modules.pop("grades", None)


def test_a_package_may_bring_a_metric(installed):
    installed("FirstGrade = grades:first_grade")
    run, qrels = Run.of({"q": {"a": 2.0, "b": 1.0}, "r": {"b": 1.0}}), {"q": {"a": 3}, "r": {"a": 3}}
    assert score(run, qrels, parse_metrics(["firstgrade"])).mean() == {"FirstGrade": 1.5}
    with pytest.raises(InputError, match="has no cutoff: write FirstGrade"):
        parse_metric("FirstGrade@3")


def test_what_is_wrong_with_anothers_metric_is_said_of_it_alone(installed):
    installed("Twice = grades:twice", "Renamed = grades:renamed", "Nothing = grades:nothing", "Gone = grades:gone")
    for name, words in {
        "Twice": "the metric Twice is called rr as well, and so is MRR",
        "Renamed": "calls itself 'Other'. Give both the same name",
        "Nothing": "is not a harness.metrics.measure.Family",
        "Gone": "cannot be loaded: AttributeError",
    }.items():
        with pytest.raises(InputError, match=f"the metric '{name}' of grades .*{words}"):
            parse_metric(name)
    assert str(parse_metric("RR@10")) == "MRR@10"
