"""An ablation on several collections: queries pooled, collections alike, in domain and zero-shot, beside baselines."""

import csv
import itertools
import json
import statistics
from pathlib import Path

import pytest
import yaml
from accelerate.state import AcceleratorState
from scipy import stats

from harness.ablation.grid import arms, stage_2
from harness.ablation.plan import plan
from harness.reports.ablation import frames, several_collections
from harness.reports.ablation import rows as table3
from harness.reports.ablation.pools import Pool, pools
from harness.reports.ablation.results import gather
from harness.reports.errors import RecordError
from harness.reports.plots import ablation as ablation_plot
from harness.reports.plots import style
from harness.reports.records.exposure import IN_DOMAIN, SEEN, ZERO_SHOT, Exposure
from harness.reports.records.records import Manifest, Record
from harness.reports.statistics.randomisation import randomisation_test
from harness.training import recipe_files
from harness.training.conductor import open_context
from harness.training.overlap import exposures
from tests.support.datasets import write_beir
from tests.support.recipes import RECIPE

WHOLE, CLS_ONLY = "CLS and OT decoding", "CLS decoding only"
METRICS = ("MRR@10", "MRR@100", "R@10", "R@100", "R@1000", "NDCG@10")
KINDS = {"a": Exposure(IN_DOMAIN, "trained on"), "b": Exposure(IN_DOMAIN, "trained on"), "z": Exposure(ZERO_SHOT, "no")}


def made(folder, dataset, values, system="DupMAE", **facts):
    """A record by hand: `values` are the queries', the same for every metric."""
    place = folder / f"{len(list(folder.iterdir()))}"
    place.mkdir(parents=True)
    ids = [f"q{n}" for n in range(len(values))]
    lines = [
        ",".join(["query_id", *METRICS]),
        *(",".join([q, *[repr(v)] * 6]) for q, v in zip(ids, values, strict=True)),
    ]
    (place / "per_query.csv").write_text("".join(f"{line}\n" for line in lines))
    about = {
        "retriever": "r", "system": system, "stage": None, "variant": None, "paper_rows": [], "options": {},
        "checkpoint": None, "checkpoint_hash": None, "seed": None, "bytes_per_document": None,
        "bytes_per_document_paper": None,
    }  # fmt: skip
    rules = {"drop_self": False, "binary_level": 1, "mean_of": [], "source": "", "titles": "none", "titles_hash": None}
    data = {
        "name": dataset, "dataset_id": dataset, "source": "folder", "location": "", "corpus_hash": "",
        "queries_hash": "", "qrels_hash": "", "counts": {"documents": 9, "queries": len(values)}, "rules": rules,
    }  # fmt: skip
    manifest = Manifest.model_validate(
        {
            "schema_version": 2, "created": "2026-01-01T00:00:00+00:00", "command": [], "config": {},
            "system": about | facts, "data": data, "top_k": 10, "top_k_searched": 9, "packages": {}, "warnings": [],
            "cost": {"hardware": {}, "seconds": {}, "peak_memory_bytes": 1, "queries_per_second": None},
            "git_commit": None, "parts": [], "files": {},
        }
    )  # fmt: skip
    return Record(place, manifest, dict.fromkeys(METRICS, statistics.fmean(values)))


def row(folder, name, dataset, values, seed=1):
    """A record that is a row of Table 3, with H = 16."""
    [this] = [one for one in table3.ROWS if one.name == name]
    dense, lexical = table3.widths(this.representation, 16)
    trained = {"kind": "finetune", "negatives": 1, "pretraining": this.pretraining, "seed": seed}
    options = {"dense": dense, "lexical": lexical, "pooling": "cls"}
    model = {"layers": 1, "hidden": 16, "vocabulary": 99}
    return made(folder, dataset, values, trained=trained, options=options, model=model)


def whole_grid(folder, values, seeds=(1,)):
    """Records of all rows, `values(dataset, row, seed)`, and of BM25, which has 0 at each first query, else 0.5."""
    distinct = [one for one in table3.ROWS if one.name != table3.HALVES]
    records = [
        row(folder, one.name, name, values(name, one.name, seed), seed)
        for name in KINDS
        for one in distinct
        for seed in seeds
    ]
    others = {"BM25": [made(folder, name, [0.0, *[0.5] * (len(values(name, WHOLE, 1)) - 1)], "BM25") for name in KINDS]}
    return records, others


def by_hand(name, system, seed):
    """Above "CLS decoding only" by 0.5 at both queries of a, below by 0.25 at one of the four of b; else alike."""
    if system != CLS_ONLY:
        return {"a": [1.0, 0.5], "b": [0.0, 0.5, 0.25, 1.0], "z": [0.5, 0.0, 1.0]}[name]
    return {"a": [0.5, 0.0], "b": [0.0, 0.5, 0.5, 1.0], "z": [0.5, 0.0, 1.0]}[name]


def test_pooled_queries_count_alike_and_collections_count_alike(tmp_path):
    """Differences 0.5, 0.5 | 0, 0, -0.25, 0. Over queries 0.75 / 6 = 0.125; over collections (0.5 - 0.0625) / 2.

    Of the 2^6 flips of the signs the three that are not 0 decide: |±0.5 ±0.5 ±0.25| is 0.75 or more where the first two
    have one sign, which half of them have. Weighed by 6 / (2 * 2) and 6 / (2 * 4) they are 0.75, 0.75, -0.1875: half
    again.
    """
    found = gather(*whole_grid(tmp_path, by_hand), KINDS)
    [pool] = pools(found)
    assert (pool.name, pool.counts, pool.queries) == (IN_DOMAIN, {"a": 2, "b": 4}, 6)
    [test] = pool.tests([(WHOLE, CLS_ONLY)], "MRR@10")
    assert test.pooled.difference == pytest.approx(0.125)
    assert (test.pooled.wins, test.pooled.ties, test.pooled.losses) == (2, 3, 1)
    assert test.alike == pytest.approx(0.21875)
    assert test.p_max_t == test.alike_p_max_t == 0.5
    differences = [0.5, 0.5, 0, 0, -0.25, 0]
    assert test.pooled.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    # a second path: scipy's own flips of signs
    flipped = stats.permutation_test(
        (differences,), statistics.fmean, permutation_type="samples", n_resamples=10**6, vectorized=False
    )
    assert test.p_max_t == pytest.approx(flipped.pvalue)
    # pooled: (1.5 + 1.75) / 6; collections alike: (0.75 + 0.4375) / 2
    assert pool.pooled(WHOLE, "MRR@10") == (pytest.approx(3.25 / 6), None)
    assert pool.alike(WHOLE, "MRR@10") == (pytest.approx(0.59375), None)


def test_a_collection_alone_is_its_own_mean(tmp_path):
    [_, b, z] = gather(*whole_grid(tmp_path, by_hand), KINDS)
    [test] = Pool("b", [b]).tests([(WHOLE, CLS_ONLY)], "MRR@10")
    assert test.alike == test.pooled.difference == -0.0625
    assert test.p_max_t == test.alike_p_max_t == 1.0  # one query that differs: either sign is as extreme
    assert pools([z, b]) == []


def test_ten_orders_are_corrected_together(tmp_path):
    """max-T of the ten orders is that of `statistics.randomisation` on the pooled differences, no less than each p."""

    def values(name, system, seed):
        n = list(itertools.chain([r.name for r in table3.ROWS])).index(system)
        return [((7 * q + 3 * n * (q + 1) + len(name)) % 11) / 10 for q in range({"a": 5, "b": 9, "z": 3}[name])]

    found = gather(*whole_grid(tmp_path, values), KINDS)
    [pool] = pools(found)
    claims = pool.claims()
    tables = {system: pool.per_query(system, "MRR@10") for system in pool.systems}
    assert all(len(table) == 14 for table in tables.values())
    rows = [[tables[better][q] - tables[worse][q] for q in sorted(tables[worse])] for better, worse in table3.CLAIMS]
    together = randomisation_test(rows)
    assert [claim.test.p_max_t for claim in claims] == pytest.approx(together.max_t)
    assert all(claim.test.p_max_t >= p - 1e-12 for claim, p in zip(claims, together.p, strict=True))
    assert [claim.holds for claim in claims] == [statistics.fmean(row) > 0 for row in rows]
    assert set(pool.against_whole("NDCG@10")) == {*pool.systems} - {WHOLE, table3.HALVES}


def test_seeds_spread_over_means_not_over_collections(tmp_path):
    """Means by seed: a 0.6 and 0.8, b 0.1 and 0.5. Collections alike 0.35 and 0.65: 0.5 ± 0.3 / √2.

    With 2 and 4 queries pooled (1.2 + 0.4) / 6 and (1.6 + 2) / 6: 13 / 30 ± (1 / 3) / √2.
    """

    def values(name, system, seed):
        return [{"a": (0.6, 0.8), "b": (0.1, 0.5), "z": (0.2, 0.2)}[name][seed - 1]] * {"a": 2, "b": 4, "z": 3}[name]

    [pool] = pools(gather(*whole_grid(tmp_path, values, (1, 2)), KINDS))
    assert pool.alike(WHOLE, "R@10") == (pytest.approx(0.5), pytest.approx(0.3 / 2**0.5))
    assert pool.pooled(WHOLE, "R@10") == (pytest.approx(13 / 30), pytest.approx(1 / 3 / 2**0.5))
    assert pool.alike("BM25", "R@10") == (pytest.approx((0.25 + 0.375) / 2), None)
    [test] = pool.tests([(WHOLE, "BM25")], "R@10")  # seeds' means: a 0.7, b 0.3, against 0, 0.5 | 0, 0.5, 0.5, 0.5
    assert test.pooled.difference == pytest.approx((0.7 + 0.2 + 0.3 - 3 * 0.2) / 6)


def test_the_report_has_each_collection_kind_and_baseline(tmp_path):
    found = gather(*whole_grid(tmp_path, by_hand), KINDS)
    assert [one.name for one in found] == ["a", "b", "z"]
    text = several_collections.as_markdown(found)
    assert text.startswith(
        "# Table 3 on 3 collections\n\n- a: 2 queries, 9 documents, H = 16, seed 1. In domain: trained"
    )
    heads = "| row | pre-training | representation | a | b | in domain, mean | z | MS MARCO Dev, published |"
    assert heads in text
    assert f"| {WHOLE} | {WHOLE} | CLS:8, OT:8 | 0.7500 | 0.4375 | 0.5938 | 0.5000 | 0.4102 |" in text
    assert "| BM25 |  |  | 0.2500 | 0.3750 | 0.3125 | 0.3333 |  |" in text
    assert "## In domain: 6 pooled queries of 2 collections\n\nEach query counts alike" in text
    assert "so that a collection counts by its queries: a 2, b 4." in text
    assert "## Zero-shot" not in text  # one collection is no pool
    assert f"| {WHOLE} > {CLS_ONLY} | +0.5000 | -0.0625 | +0.0000 | +0.1250 | +0.0094 |" in text
    assert "\n## a\n" not in text
    whole = several_collections.as_markdown(found, whole=True)
    assert whole.startswith(text)
    assert all(f"\n## {name}\n" in whole for name in KINDS)
    # kinds decide the order of the collections, and what is seen in part stands in neither mean
    mixed = KINDS | {"a": Exposure(ZERO_SHOT, "no"), "b": Exposure(SEEN, "3 of its documents")}
    text = several_collections.as_markdown(gather(*whole_grid(tmp_path, by_hand), mixed))
    assert "| b | a | z | zero-shot, mean |" in text
    assert "Seen in part: 3 of its documents." in text


def test_the_tables_for_other_programs(tmp_path):
    found = gather(*whole_grid(tmp_path, by_hand, (1, 2)), KINDS)
    cells = frames.cells(found)
    assert len(cells) == 3 * 9 * 6
    assert set(cells[cells.row == "BM25"].published) == {""}
    assert list(cells[cells.row == "BM25"].by_seed)[:1] == ["0.25"]
    assert set(cells[cells.dataset == "z"].kind) == {ZERO_SHOT}
    claims = frames.claims(found)
    assert len(claims) == (3 + 1) * 2 * 10
    pooled = claims[(claims.dataset == IN_DOMAIN) & (claims.metric == "MRR@10") & (claims.worse == CLS_ONLY)]
    assert list(pooled.measured)[:1] == [0.125]
    assert list(pooled.collections_alike)[:1] == [0.21875]
    table = frames.pooled(found)
    assert len(table) == 9 * 2
    line = table[(table.row == CLS_ONLY) & (table.metric == "MRR@10")].iloc[0]
    assert (line.queries, line.measured, line.mean_over_queries) == (6, -0.125, pytest.approx(2.5 / 6))


def test_a_baseline_must_be_there_on_every_collection(tmp_path):
    records, others = whole_grid(tmp_path, by_hand)
    with pytest.raises(RecordError, match="z: no record for BM25"):
        gather(records, {"BM25": others["BM25"][:2]}, KINDS)


# --- the picture


def drawn(folder, found, **words):
    path = write_cells(folder, found)
    with style.styled():
        return ablation_plot.ablation(ablation_plot.read_cells(path, "MRR@10"), "MRR@10", **words)


def test_the_picture_has_in_domain_beside_zero_shot_with_the_seeds_spread(tmp_path):
    """In domain "CLS and OT decoding" has (0.75 + 0.4375) / 2 = 0.59375 with seed 1, and 0.1 more with seed 2."""

    def values(name, system, seed):
        return [value + 0.1 * (seed - 1) for value in by_hand(name, system, seed)]

    found = gather(*whole_grid(tmp_path, values, (1, 2)), KINDS)
    cells = ablation_plot.read_cells(write_cells(tmp_path, found), "MRR@10")
    with pytest.raises(RecordError, match="BM25 has not the same seeds"):
        ablation_plot.ablation([c for c in cells if (c.dataset, c.row) != ("b", "BM25")], "MRR@10")
    inside, zero, published = drawn(tmp_path, found).axes
    assert [axes.get_title() for axes in (inside, zero)] == ["in domain: mean of 2", "zero-shot: z"]
    assert published.get_title().startswith("published")
    assert inside.get_xlabel().endswith("\na, b")
    points = {
        round(y): (x, bar)
        for container in inside.containers
        for x, y, bar in zip(
            *container.lines[0].get_data(),
            [s[1][0] - s[0][0] for s in container.lines[2][0].get_segments()]
            if container.lines[2]
            else itertools.repeat(0),
            strict=False,
        )
    }
    x, bar = points[3]
    assert x == pytest.approx(0.64375)
    assert bar / 2 == pytest.approx(0.1 / 2**0.5)
    assert [axes.get_title() for axes in drawn(tmp_path, found, each=True).axes][:3] == [
        "in domain: a", "in domain: b", "zero-shot: z",
    ]  # fmt: skip


def write_cells(folder, found):
    path = folder / "cells.csv"
    frames.cells(found).to_csv(path, index=False)
    return path


def test_a_baseline_far_off_does_not_press_the_rows_together(tmp_path):
    """BM25 has 0.3333 on z, where rows lie at 0.5; an untrained base at 0.001 stands at the edge with its value."""

    def values(name, system, seed):
        return [0.5 + 0.01 * [r.name for r in table3.ROWS].index(system)] * 3

    records, others = whole_grid(tmp_path, values)
    others["untrained base"] = [made(tmp_path, name, [0.001] * 3) for name in KINDS]
    axes = drawn(tmp_path, gather(records, others, KINDS)).axes[1]
    assert axes.get_xlim()[0] > 0.4
    assert {"◀ 0.001", "◀ 0.333"} <= {text.get_text() for text in axes.texts}


# --- what training saw


def words(n):
    return f"text {n} of {n * 7} words about matter {n % 5}"


@pytest.fixture
def place(tmp_path):
    """Collections `own` (trained on), `part` (shares a document with it, another with the corpus), `query`, `free`."""

    def write(name, texts, queries):
        docs = [(f"d{n}", "", text) for n, text in enumerate(texts)]
        asked = [(f"q{n}", text) for n, text in enumerate(queries)]
        half = len(asked) // 2
        qrels = {
            "train": [(f"q{n}", "d0", 1) for n in range(half)],
            "test": [(f"q{n}", "d0", 1) for n in range(half, len(asked))],
        }
        write_beir(tmp_path / name, docs, asked, qrels)

    write("own", [words(n) for n in range(20)], [f"what is {n}" for n in range(32)])
    write("part", [words(3).upper().replace(" ", "  "), words(101), "read  before"], ["who", "where", "title one", "x"])
    write("query", [words(200)], ["one", "two", "what is 3", "four"])
    write("free", [words(300)], ["one", "two", "Title One", "four"])
    corpus = [{"title": "title one", "text": "Read before"}, {"title": "", "text": "another text that is read"}]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in corpus))
    return tmp_path


def recipe_at(place, **changes):
    data = {"corpora": ["corpus.jsonl"], "train": ["own/train"], "against": ["coordination"]}
    data["evaluate"] = ["own/test", "part/test", "query/test", "free/test"]
    path = place / "r.yaml"
    values = RECIPE | {"name": "r", "root": str(place)} | {"data": data | changes.pop("data", {})} | changes
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return recipe_files.load(str(path), [])


def test_zero_shot_is_what_training_saw_nothing_of(place, monkeypatch):
    """`part` shares two documents word for word but for case and space; `query` the training query "what is 3"."""
    context = open_context(recipe_at(place), place / "out", 1)
    found = exposures(context)
    assert {name: one.kind for name, one in found.items()} == {
        "own/test": IN_DOMAIN, "part/test": SEEN, "query/test": SEEN, "free/test": ZERO_SHOT,
    }  # fmt: skip
    assert found["own/test"].note == "its corpus is that of own/train, which training learnt from or chose by"
    assert found["part/test"].note.startswith("2 of its documents and 0 of its queries are word for word")
    assert found["query/test"].note.startswith("0 of its documents and 1 of its queries")
    # a title is no query; it is said
    assert found["free/test"].note.endswith("1 of its queries happen to be titles of texts that it read")
    # a second time it is found, and no corpus is read
    monkeypatch.setattr("harness.training.overlap._compare", None)
    assert exposures(context) == found
    # the same split twice: every query was trained on
    again = exposures(open_context(recipe_at(place, data={"evaluate": ["own/train"]}), place / "out", 1))
    assert again["own/train"].note.endswith("16 of its queries are word for word among those")


def test_choosing_on_a_collection_ends_its_being_zero_shot(place):
    recipe = recipe_at(place, data={"validate_on": "free/train", "evaluate": ["free/test"]})
    assert exposures(open_context(recipe, place / "out", 1))["free/test"].kind == IN_DOMAIN


def test_what_pseudo_queries_are_made_of_is_seen(place):
    """The corpus behind `pseudo` holds the only document of `query`."""
    (place / "more.jsonl").write_text(json.dumps({"title": "t", "text": words(200)}) + "\n")
    pseudo = {"corpora": ["more.jsonl"]}
    stages = RECIPE["stages"] | {"in_batch": RECIPE["stages"]["in_batch"] | {"train": ["made"]}}
    changes = {"pseudo": {"made": pseudo}, "evaluate": ["query/test", "free/test"]}
    found = exposures(open_context(recipe_at(place, data=changes, stages=stages), place / "out", 1))
    assert found["query/test"].note.startswith("1 of its documents and 1 of its queries")
    assert found["free/test"].kind == ZERO_SHOT


# --- recipes that are more than in-batch, mining, hard negatives


def test_two_in_batch_stages_of_their_own_data_are_kept_for_every_arm(place):
    """pseudo first, then own; `precision` and each stage's `train` stay, the second mining and what is behind go."""
    first = RECIPE["stages"]["in_batch"] | {"train": ["made"]}
    names = RECIPE["stages"]
    stages = {"pretrain": names["pretrain"], "first": first, **{n: names[n] for n in names if n != "pretrain"}}
    recipe = recipe_at(place, data={"pseudo": {"made": {"corpora": ["corpus.jsonl"]}}}, stages=stages, precision="bf16")
    found = arms(recipe, 16, Path("out"))
    assert len(found) == 7
    for arm in found:
        assert list(arm.recipe.stages) == ["pretrain", "first", "in_batch", "mine", "hard"]
        tuned = [arm.recipe.stages[name] for name in ("first", "in_batch", "hard")]
        assert [stage.train for stage in tuned] == [("made",), (), ()]
        assert len({(stage.dense, stage.lexical) for stage in tuned}) == 1
        assert arm.recipe.precision == "bf16"
        assert arm.checkpoint == arm.folders["hard"]
    assert sum("in-batch on made" in stage.what for stage in plan(found, None)) == 7


WEIGH = {"kind": "weigh", "collections": ["own/train"], "factors": [0.5, 1, 2]}


def test_weighing_is_kept_before_and_after_the_hard_negatives(place):
    names = RECIPE["stages"]
    stages = {}
    for name, stage in names.items():
        stages |= {name: stage} | ({f"weigh_{name}": WEIGH} if name in ("in_batch", "hard", "mine_again") else {})
    recipe = recipe_at(place, stages=stages)
    kept = ["pretrain", "in_batch", "weigh_in_batch", "mine", "hard", "weigh_hard", "weigh_mine_again"]
    assert list(stage_2(recipe).stages) == kept
    found = arms(recipe, 16, Path("out"))
    assert {arm.checkpoint.name for arm in found} == {"weigh_mine_again"}
    assert sum(stage.what == "weigh the halves by MRR@10 on own/train" for stage in plan(found, None)) == 21


def test_the_recipe_that_comes_with_the_harness_names_seven_collections():
    recipe = recipe_files.load(recipe_files.ablation("mini"), [])
    assert len(recipe.data.evaluate) == 7
    found = arms(recipe, 192, Path("out"), 3)
    assert len(found) == 21
    kinds = ["pretrain", "finetune", "weigh", "mine", "finetune", "weigh"]
    assert [stage.kind for stage in found[0].recipe.stages.values()] == kinds


@pytest.fixture
def fresh():
    """A process has one precision; before and after, none is chosen."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh")
def test_an_ablation_on_two_kinds_in_bf16(place, cli, monkeypatch):
    """In-batch on pseudo-queries, then on queries, in bf16, and weighing; one collection in domain, two zero-shot."""
    write_beir(
        place / "twin",
        [("d0", "", "nothing here")],
        [("q0", "one"), ("q1", "two")],
        {"test": [("q0", "d0", 1), ("q1", "d0", 1)]},
    )
    pairs = list(itertools.combinations(["red", "green", "water", "river", "tree", "leaf", "stone"], 2))[:16]
    texts = [
        {"title": f"{a} {b}", "text": f"{b} and the {a} are by {pairs[n - 3][0]}"} for n, (a, b) in enumerate(pairs)
    ]
    (place / "corpus.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    names = RECIPE["stages"]
    short = {n: {**stage, **({"steps": 2} if "steps" in stage else {})} for n, stage in names.items()}
    first = {**short["in_batch"], "train": ["made"]}
    stages = {"pretrain": short["pretrain"], "first": first, **{n: short[n] for n in short if n != "pretrain"}}
    stages["weigh"] = WEIGH
    data = {"pseudo": {"made": {"corpora": ["corpus.jsonl"]}}, "evaluate": ["own/test", "free/test", "twin"]}
    recipe_at(place, data=data, stages=stages, precision="bf16")
    monkeypatch.setattr("harness.reports.plots.training_curves.draw", lambda *args: None)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "avx512_bf16": False}, raising=False)
    answer = cli("ablate", "-R", place / "r.yaml", "-O", place / "made", "--threads", 1)
    assert answer.code == 0, answer.err
    assert "warning: this CPU has no bf16 instructions" in answer.err
    assert "one half; there is nothing to weigh" in answer.err
    assert "| own/test | free/test | twin/test | zero-shot, mean |" in answer.out
    assert "## Zero-shot: 4 pooled queries of 2 collections" in answer.out
    with (place / "made/table3.csv").open() as file:
        assert {line["kind"] for line in csv.DictReader(file)} == {IN_DOMAIN, ZERO_SHOT}
    options = [
        json.loads(file.read_text())["system"]["options"] for file in place.glob("made/results/*/*/*/manifest.json")
    ]
    assert {found["precision"] for found in options if "checkpoint" in found} == {"bf16"}  # as they were trained
    assert (place / "made/pooled.csv").is_file()
    assert (place / "made/table3.md").read_text().startswith(answer.out)
    drawn = cli("plot", "ablation", place / "made", "-O", place / "a.png")
    assert drawn.code == 0, drawn.err
