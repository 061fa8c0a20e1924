"""Things that must not stand side by side, and options that must not be dropped: other tools take both in silence."""

import json
import re

import pytest

import harness
from harness.reports.records import comparable, records
from harness.retrievers.errors import InputError
from harness.retrievers.run_files import trec
from tests.support.datasets import write_beir

COUNT, DEEP, CUT = 30, 40, 10  # documents of a query in each run
QUERIES = [(f"q{n}", f"word{n % 7}") for n in range(COUNT)]
DOCS = [(f"d{n:02}", "", f"word{n % 7} more{n}") for n in range(60)]
QRELS = {"test": [(f"q{n}", f"d{(7 * n) % 60:02}", 1) for n in range(COUNT)]}


@pytest.fixture
def where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return str(write_beir(tmp_path / "med", DOCS, QUERIES, QRELS))


def run_of(name, depth, queries=COUNT, shift=0):
    """Results whose scores differ with `shift`: {query: {document: score}}."""
    return {
        f"q{n}": {f"d{(d + n) % 60:02}": float(60 - (d + shift) % 60) for d in range(depth)} for n in range(queries)
    }


@pytest.fixture
def two_depths(where):
    """A full run and one cut at 10, both with R@10 and R@40."""
    return [
        harness.score(run_of(name, depth), where, name=name, metrics=["R@10", "R@40", "NDCG@10"])
        for name, depth in (("full", DEEP), ("cut", CUT))
    ]


def test_a_run_that_was_cut_is_not_compared_at_a_deeper_rank(two_depths, bad, cli, tmp_path):
    """A run of 100 results had its R@1000 compared with a full one: difference -0.3155, p < 0.0001."""
    full, cut = two_depths
    with pytest.raises(InputError, match=r"goes deep enough and .* was cut at 10 results of a query, so R@40"):
        harness.compare(full, cut, metric="R@40")
    assert harness.compare(full, cut, metric="R@10").names == ("full (in memory)", "cut (in memory)")
    allowed = harness.compare(full, cut, metric="R@40", allow_shallow=True)
    assert allowed.names == ("full (in memory)", "cut (in memory) (cut at 10)")
    assert "runs of different depths" in allowed.warnings[0]
    words = (full.folder, cut.folder)
    for command in (
        ("compare", *words, "-m", "R@40"),
        ("plot", "bars", *words, "-m", "R@40", "-O", "a.png"),
        ("plot", "cost", *words, "-m", "R@40", "-O", "a.png"),
        ("plot", "recall", *words, "-O", "a.png"),
        ("plot", "recall", *words, "-O", "a.svg", "--cutoffs", "5,20"),
        ("plot", "differences", *words, "-m", "R@40", "-O", "a.png"),
    ):
        answer = cli(*command)
        assert answer.code == 2, command
        assert "Choose a metric up to rank 10, or mark the shallow by --allow-shallow" in answer.err
        drawn = list(tmp_path.glob("a.*"))
        assert not drawn
        if command[1] != "cost":  # neither record has a cost
            assert cli(*command, "--allow-shallow").code == 0, command
            for path in tmp_path.glob("a.*"):
                assert path.suffix == ".png" or "cut at 10" in path.read_text()
                path.unlink()


def test_list_marks_what_is_too_shallow(two_depths, cli):
    lines = cli("list", "runs").out.splitlines()
    [cut], [full] = ([line for line in lines if f" {name} (in" in line] for name in ("cut", "full"))
    assert re.search(r"R@10 .*R@40|R@40", lines[0])
    assert cut.count("(cut at 10)") == 1  # R@40 alone
    assert "cut at" not in full
    facts = {one["retriever"]: one["cut_at"] for one in json.loads(cli("list", "runs", "--json").out)}
    assert facts == {"full": None, "cut": 10}


@pytest.mark.parametrize(
    ("counts", "cut"),
    [
        ([100] * 10, 100),
        ([100] * 9, None),  # too few queries to say
        ([100] * 6 + [90, 80, 3, 0], None),  # nine answered
        ([100] * 6 + [90, 80, 3, 7], 100),
        ([100] * 5 + [99] * 5, None),
        ([0] * 50 + [7] * 12, 7),
        ([], None),
    ],
)
def test_where_a_run_counts_as_cut(counts, cut):
    assert comparable.cut_at(counts) == cut


def test_the_corpus_may_have_no_more(where):
    """A run of all documents is whole, however few they are."""
    whole = harness.score(run_of("whole", 60), where, metrics=["R@100"], check_documents=True)
    assert whole.manifest.system.file.cut_at == 60
    assert comparable.depth(whole.record, 100) is None
    assert comparable.depth(whole.record, 10) is None


def test_a_record_of_before_is_counted_from_its_run(two_depths):
    """Records that were made before say nothing of the cut."""
    cut = two_depths[1]
    text = (cut.folder / records.MANIFEST).read_text()
    (cut.folder / records.MANIFEST).write_text(re.sub(r',\s*"cut_at": 10', "", text))
    again = records.read(cut.folder)
    assert "cut_at" not in again.manifest.system.file.model_fields_set
    assert comparable.depth(again, 40) == CUT


def test_our_own_runs_are_as_deep_as_top_k(where):
    deep = harness.run("bm25", where, metrics=["R@10"])
    shallow = harness.run("bm25", where, metrics=["R@10"], top_k=10, k1=2)
    assert harness.compare(deep, shallow, metric="R@10").names == ("bm25 (flat)", "bm25 (flat, k1=2, top_k=10)")


@pytest.fixture
def two_meds(where, tmp_path):
    """Records of two collections that are both `med/test`, of which one lacks documents."""
    other = write_beir(tmp_path / "elsewhere" / "med", DOCS[:50], QUERIES, QRELS)
    first = harness.run("bm25", where, metrics=["NDCG@10", "R@10"])
    return first, harness.run("coordination", str(other), metrics=["NDCG@10", "R@10"])


def test_two_collections_of_one_name_do_not_stand_side_by_side(two_meds, bad, cli, tmp_path):
    """A filtered copy and the full `med` were bars of one group, and rows of one table."""
    first, second = two_meds
    for command in (
        ("compare", first.folder, second.folder),
        ("plot", "bars", "-O", "a.png"),
        ("plot", "cost", "-O", "a.png"),
        ("plot", "recall", "-O", "a.png"),
        ("plot", "differences", first.folder, second.folder, "-O", "a.png"),
    ):
        answer = cli(*command)
        assert answer.code == 2, command
        assert f"{first.folder} (med/test) and {second.folder} (med/test) are not of one collection" in answer.err
        assert "differ in corpus (" in answer.err
    assert cli("plot", "bars", first.folder, "-O", "a.png").code == 0
    listed = cli("list", "runs")
    assert listed.code == 0
    assert "are not of one collection. They differ in corpus" in listed.err
    assert len(listed.out.splitlines()) == 3


def test_nor_do_they_in_a_column_of_a_table(where, tmp_path, cli, bad):
    other = str(write_beir(tmp_path / "elsewhere" / "med", DOCS[:50], QUERIES, QRELS))
    harness.run("dupmae-mini", where, metrics=["MRR@10"])
    assert cli("table", 3, "--on", "med/test").code == 0
    harness.run("retromae-mini", other, metrics=["MRR@10"])
    answer = cli("table", 3, "--on", "med/test")
    assert answer.code == 2
    assert "(med/test) are not of one collection. They differ in corpus" in answer.err


def test_each_option_that_is_not_its_default_is_in_the_label(where, cli):
    """Four records of a sweep were all called `bm25 (flat)`, and `plot bars` drew the newest."""
    labels = []
    for words in ((), ("--k1", 2, "--b", 0.75), ("--k1", 2), ("--fields", "multifield"), ("--k1", 0.9)):
        answer = cli("run", "-r", "bm25", "-d", where, "-m", "ndcg@10", *words)
        labels.append(re.search(r"bm25 \([^)]*\)", answer.out)[0])
    assert labels == [
        "bm25 (flat)",
        "bm25 (flat, k1=2, b=0.75)",
        "bm25 (flat, k1=2)",
        "bm25 (multifield)",
        "bm25 (flat)",
    ]
    listed = cli("list", "runs").out
    assert all(label in listed for label in labels)
    folders = [line.split()[1] for line in listed.splitlines()[1:]]
    assert len(folders) == 4
    compared = cli("compare", *folders).out
    assert all(f"| {label} |" in compared for label in labels)
    assert cli("plot", "bars", "-O", "a.svg").code == 0


def test_like_ones_are_drawn_once_and_unlike_ones_are_refused(where, cli, tmp_path):
    """Two files of one tag are two systems; the newest was drawn alone."""
    for name, shift in (("a", 0), ("b", 3)):
        harness.Ranking("same", harness_run(run_of("same", 20, shift=shift))).to_trec(tmp_path / name / "run.trec")
        assert cli("score", tmp_path / name / "run.trec", "-d", where, "-m", "ndcg@10").code == 0
    answer = cli("plot", "bars", "-O", "a.png")
    assert answer.code == 2
    assert "are both same, as given (from run.trec) on med/test" in answer.err
    assert "--label FOLDER=TEXT" in answer.err


def harness_run(found):
    return harness.retrievers.types.Run.of(found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "-r", "bm25", "--k1", "0.5", "--k1", "0.9"), "--k1 is given twice, as 0.5 and as 0.9."),
        (("run", "-r", "bm25", "--top-k", "5", "-k", "6"), "--top-k is given twice, as 5 and as 6."),
        (("run", "-r", "bm25", "--rerank", "x", "--depth=10", "--depth", "50"), "--depth is given twice, as 10 and"),
        (("run", "-r", "bm25", "-o", "k1=1", "--option", "k1=2"), "--option k1 is given twice, as 1 and as 2."),
        (("run", "-c", "a.yaml", "-c", "b.yaml"), "--config is given twice, as a.yaml and as b.yaml."),
        (("fuse", "a", "b", "--weights", "1,2", "-w", "3,4"), "--weights is given twice, as 1,2 and as 3,4."),
        (("score", "x.trec", "-d", "a", "-d", "b", "-d", "c"), "--dataset is given 3 times, as a and as b and as c."),
        (("compare", "a", "b", "-m", "R@1", "-m", "R@2"), "--metric is given twice"),
        (("plot", "bars", "-O", "a.png", "-O", "b.png"), "--output is given twice, as a.png and as b.png."),
        (("table", "1", "-f", "md", "-f", "csv"), "--format is given twice"),
        (("check", "--baseline", "a", "--baseline", "b"), "--baseline is given twice"),
        (("train", "-R", "small", "-R", "mini"), "--recipe is given twice"),
        (("train", "-R", "small", "--set", "seed=1", "--set", "seed=2"), "--set seed is given twice"),
        (("bench", "score", "--queries", "1", "--queries", "2"), "--queries is given twice"),
    ],
)  # fmt: skip
def test_of_two_values_none_is_kept_in_silence(bad, words, message):
    assert message in bad(*words)


def test_what_may_be_repeated_still_may(cli, where):
    answer = cli(
        "run", "-r", "bm25", "-r", "coordination", "-d", where, "-m", "r@5", "-m", "r@10", "--force", "--force"
    )
    assert answer.code == 0, answer.err
    assert len(trec.read(next((harness.read(line.split()[1]).folder / records.RUN)
                              for line in answer.out.splitlines() if line.startswith("wrote")))) > 0  # fmt: skip


def test_a_fusion_is_as_deep_as_its_deepest_part(two_depths, where, cli):
    """A fusion of cut runs was held against full ones without a mark."""
    full, cut = two_depths
    other = harness.score(run_of("other", 20, shift=2), where, name="other", metrics=["R@40"])
    fused = harness.fuse(cut, other, metrics=["R@40", "R@10"])
    assert comparable.depth(fused.record, 40) == 20
    with pytest.raises(InputError, match="was cut at 20 results"):
        harness.compare(full, fused, metric="R@40")
    deep = harness.fuse(cut, full, metrics=["R@40"])
    assert comparable.depth(deep.record, 40) is None


def test_two_collections_are_told_before_two_names(two_meds, cli):
    """`plot` asked for labels first, and refused the collections when it had them."""
    first, second = two_meds
    again = harness.run("coordination", str(first.manifest.data.location), metrics=["NDCG@10"])
    answer = cli("plot", "bars", again.folder, second.folder, "-O", "a.png")
    assert "are not of one collection" in answer.err
    assert "is newer" not in answer.err


def test_a_label_says_what_was_left_out_and_every_digit(where, cli):
    runs = [harness.run("bm25", where, metrics=["NDCG@10"], k1=k1) for k1 in (0.90000001, 1.2345678, 1.2345679)]
    labels = [harness.reports.records.labels.label(run.manifest) for run in runs]
    assert labels == ["bm25 (flat, k1=0.90000001)", "bm25 (flat, k1=1.2345678)", "bm25 (flat, k1=1.2345679)"]


def test_a_metric_that_the_run_is_too_shallow_for(where):
    """The advice was to score it again, which says that a run of 10 results cannot be."""
    deep = harness.run("bm25", where, metrics=["R@20"])
    shallow = harness.run("bm25", where, metrics=["R@10"], top_k=10)
    with pytest.raises(InputError, match="Its run has 10 results of a query: run it with --top-k 20"):
        harness.compare(deep, shallow, metric="R@20")
