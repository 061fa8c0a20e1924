"""`harness tune`: options of a retriever, or the weights of a fusion, chosen on one split for another.

Every value of a grid is run on the one, the best by a metric is run on the others, and their records say by which grid
it was chosen. What is reported is never what was chosen by: the two may share no judged query.
"""

import itertools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.datasets.dataset import Dataset
from harness.datasets.loader import resolve
from harness.metrics.names import parse_metric
from harness.metrics.scoring import Scores, score
from harness.reports.records import records
from harness.reports.records.labels import name_of
from harness.retrievers.errors import InputError, unknown
from harness.retrievers.places import cache
from harness.retrievers.registry import get
from harness.retrievers.run_files import fusion, trec
from harness.runs.config import Raw, RetrieverSpec, RunConfig, share_options
from harness.runs.fusion import LABEL, Recipe, fuse_parts
from harness.runs.record_store import Outcome, RecordStore
from harness.runs.results import Result
from harness.runs.runner import iterate
from harness.runtime.job import HarnessJob

if TYPE_CHECKING:
    import pandas

USUAL = {"bm25": {"k1": "0.6,0.9,1.2,1.5,2", "b": "0.2,0.4,0.6,0.75,0.9"}}  # of a retriever for which no grid is named
STEP = 0.1  # of the weights
_MOST = 1000  # points of a grid
_DEPTH = 1000  # results of a run that is fused


@dataclass(frozen=True)
class Tuned:
    """A grid of values, each with its score on the split that chooses, and what was made of the best."""

    metric: str
    dataset: str  # that chose
    grid: tuple[tuple[dict[str, Any], float], ...]  # what was tried, and the mean over the queries
    outcomes: tuple[Outcome, ...] = ()  # on what is reported

    @property
    def chosen(self) -> dict[str, Any]:
        """The best; of equals the first."""
        return max(self.grid, key=lambda point: point[1])[0]

    @property
    def best(self) -> float:
        """Its score."""
        return max(value for _, value in self.grid)

    @property
    def results(self) -> list[Result]:
        """What the best gave on each collection that is reported."""
        return [Result(outcome.record) for outcome in self.outcomes]

    def to_frame(self) -> "pandas.DataFrame":
        """A row a point of the grid, the best first: its values, and the metric on the split that chooses."""
        import pandas

        frame = pandas.DataFrame([{**values, self.metric: value} for values, value in self.grid])
        return frame.sort_values(self.metric, ascending=False, kind="stable", ignore_index=True)

    def as_record(self) -> dict[str, Any]:
        """What a record keeps of it."""
        points = [{**values, "value": value} for values, value in self.grid]
        return {"metric": self.metric, "dataset": self.dataset, "chosen": self.chosen, "grid": points}


def typed(words: Sequence[str]) -> dict[str, list[Any]]:
    """A grid as it is typed: each of `words` is NAME=VALUE,VALUE,….

    Raises InputError for a word that is not, and a name that is given twice.
    """
    found: dict[str, list[Any]] = {}
    for word in words:
        option, equals, values = word.partition("=")
        option = option.strip().replace("-", "_")
        if not equals or not option or not all(value.strip() for value in values.split(",")):
            raise InputError(f"--grid {word!r} is not NAME=VALUE,VALUE,… such as k1=0.9,1.2,1.5.")
        if option in found:
            raise InputError(f"{option} is given twice. Give it once.")
        found[option] = [Raw(value.strip()) for value in values.split(",")]
    return found


def points(
    name: str, grid: Mapping[str, Sequence[Any]], fixed: Mapping[str, Any]
) -> list[tuple[dict[str, Any], RetrieverSpec]]:
    """The grid of a retriever's options: what each point sets, and the retriever with it and what is `fixed`.

    Without a `grid` ({option: values}), what is usual for the retriever. Raises InputError for an option that is fixed
    as well or that the retriever lacks, and a grid of none, one, or more than 1,000 points.
    """
    get(name)  # whatever is wrong with the name comes first
    asked = dict(grid) or typed([f"{option}={values}" for option, values in USUAL.get(name, {}).items()])
    if not asked:
        raise InputError(f"no grid named, and none is usual for {name}. Give --grid NAME=VALUE,VALUE,….")
    if twice := sorted(asked.keys() & fixed.keys()):
        raise InputError(f"{', '.join(twice)} is given twice. Give it once, in the grid or as an option.")
    count = int(np.prod([len(values) for values in asked.values()]))
    if not 1 < count <= _MOST:
        raise InputError(f"the grid has {count:,} points; want 2 to {_MOST:,}.")
    found = []
    for combination in itertools.product(*asked.values()):
        chosen = dict(zip(asked, combination, strict=True))
        [spec] = share_options([name], {**fixed, **chosen})
        found.append(({option: spec.options[option] for option in asked}, spec))
    for number, (chosen, spec) in enumerate(found):
        if any(spec == other for _, other in found[:number]):
            shown = ", ".join(f"{option}={value}" for option, value in chosen.items())
            raise InputError(f"the grid has {shown} twice. Give each value once.")
    return found


def weightings(runs: int, step: float = STEP) -> list[tuple[float, ...]]:
    """All weights of `runs` runs in steps that add up to 1, those of one run alone among them.

    Raises InputError for fewer than two runs, a step that does not divide 1, or more than 1,000 weightings.
    """
    if runs < 2:
        raise InputError("weights are of two retrievers or more.")
    parts = round(1 / step) if step > 0 else 0
    if parts < 2 or abs(parts * step - 1) > 1e-9:
        raise InputError(f"--step {step:g} does not divide 1. Give one such as 0.1 or 0.05.")
    cuts = itertools.combinations_with_replacement(range(parts + 1), runs - 1)
    found = [np.diff([0, *sorted(cut), parts]) / parts for cut in cuts]
    if len(found) > _MOST:
        raise InputError(f"{runs} runs in steps of {step:g} are {len(found):,} weightings; want at most {_MOST:,}.")
    return sorted({tuple(round(float(weight), 9) for weight in one) for one in found}, reverse=True)


def check_apart(chooses: str, reported: Sequence[str], config: RunConfig) -> None:
    """Raise InputError where a collection that is to be reported has a judged query of the one that chooses."""
    job = HarnessJob(cache(), config.threads)
    asked = {(query.query_id, query.text) for dataset in _opened(chooses, config, job) for query in dataset.queries}
    for name in reported:
        for dataset in _opened(name, config, job):
            shared = [query for query in dataset.queries if (query.query_id, query.text) in asked]
            if shared:
                raise InputError(
                    f"{len(shared):,} of the {len(dataset.queries):,} judged queries of {dataset.name} are of "
                    f"{chooses} too, by which the values are to be chosen ({shared[0].query_id!r}). Choose on another "
                    "split than is reported."
                )


def _opened(name: str, config: RunConfig, job: HarnessJob) -> list[Dataset]:
    found = resolve(name, config.titles, config.queries_with_text, config.fields)
    for dataset in found:
        dataset.open(job)
    return found


def tune(
    names: Sequence[str],
    chooses: str,
    metric: str,
    config: RunConfig,
    command: Sequence[str],
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    fixed: Mapping[str, Any] | None = None,
    step: float | None = None,
    norm: str | None = None,
) -> Tuned:
    """Options of one retriever, or the weights of several, chosen on `chooses` for the datasets of `config`.

    `grid` and `fixed` are options of the retriever, see `points`; `step` and `norm` are of weights, see `weightings`
    and `harness.retrievers.run_files.fusion`. The retrievers of `config` do not count. Raises InputError as they do,
    for one of these where it does not belong, and for a name that is given twice.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{', '.join(twice)} is given twice. Name each retriever once.")
    if len(names) == 1 and (step is not None or norm is not None):
        raise InputError("step and norm are of the weights of several retrievers, and one is named.")
    if len(names) > 1 and grid:
        raise InputError("a grid is of one retriever's options, and several are named, whose weights are tuned.")
    if norm not in (None, *fusion.NORMS):
        raise unknown("norm", str(norm), fusion.NORMS)
    if len(names) == 1:
        return _tune_options(points(names[0], grid or {}, fixed or {}), chooses, metric, config, command)
    specs = share_options(list(names), dict(fixed or {}))
    return _tune_weights(specs, norm or "min-max", STEP if step is None else step, chooses, metric, config, command)


def _tune_options(
    grid: Sequence[tuple[dict[str, Any], RetrieverSpec]],
    chooses: str,
    metric: str,
    config: RunConfig,
    command: Sequence[str],
) -> Tuned:
    """Choose among points of a grid by `metric` on `chooses`, and run the best on the datasets of `config`."""
    name = str(parse_metric(metric))
    check_apart(chooses, config.datasets, config)
    found = []
    with tempfile.TemporaryDirectory(prefix="harness-tune-") as place:
        tried = _trial(config, [spec for _, spec in grid], chooses, name, place)
        for (values, _), outcome in zip(grid, iterate(tried, command), strict=True):
            found.append((values, outcome.record.metrics[name]))
    tuned = Tuned(name, chooses, tuple(found))
    best = next(spec for values, spec in grid if values == tuned.chosen)
    made = list(iterate(config.model_copy(update={"retrievers": [best]}), command)) if config.datasets else []
    return _with_grid(tuned, made, config)


def _tune_weights(
    specs: Sequence[RetrieverSpec],
    norm: Any,
    step: float,
    chooses: str,
    metric: str,
    config: RunConfig,
    command: Sequence[str],
) -> Tuned:
    """Choose the weights of a fusion of retrievers by `metric` on `chooses`, and fuse on the datasets of `config`."""
    parsed = parse_metric(metric)
    weights = weightings(len(specs), step)
    check_apart(chooses, config.datasets, config)
    named = [spec.label for spec in specs]
    labels = [spec.whole if named.count(spec.label) > 1 else spec.label for spec in specs]
    found = []
    with tempfile.TemporaryDirectory(prefix="harness-tune-") as place:
        tried = _trial(config, specs, chooses, str(parsed), place, max(_DEPTH, config.top_k))
        runs = [outcome.run() for outcome in iterate(tried, command)]
        [dataset] = _opened(chooses, config, HarnessJob(cache(), config.threads))
        for chosen in weights:
            run = fusion.fuse(runs, "weighted", weights=chosen, norm=norm, top_k=parsed.cutoff or _DEPTH)
            value = score(run, dataset.qrels, [parsed], dataset.rules.levels).mean()[str(parsed)]
            found.append((dict(zip(labels, chosen, strict=True)), value))
    tuned = Tuned(str(parsed), chooses, tuple(found))
    how = Recipe(method="weighted", weights=tuple(tuned.chosen.values()), norm=norm)
    made = []
    for name in config.datasets:
        one = config.model_copy(update={"datasets": [name]})
        parts = [outcome.record for outcome in iterate(one.model_copy(update={"retrievers": list(specs)}), command)]
        fused = one.model_copy(update={"retrievers": [RetrieverSpec(name=LABEL)]})
        made.append(fuse_parts(parts, how, fused, command))
    return _with_grid(tuned, made, config)


def _trial(
    config: RunConfig, specs: Sequence[RetrieverSpec], chooses: str, metric: str, place: str, depth: int | None = None
) -> RunConfig:
    """A configuration of runs on the split that chooses, whose records are not kept."""
    cutoff = parse_metric(metric).cutoff
    changed = {
        "retrievers": list(specs), "datasets": [chooses], "metrics": [metric], "results": Path(place),
        "top_k": depth or cutoff or _DEPTH,
    }  # fmt: skip
    return config.model_copy(update=changed)


def _with_grid(tuned: Tuned, made: Sequence[Outcome], config: RunConfig) -> Tuned:
    """The same with its outcomes, whose records now say by which grid they were chosen."""
    store = RecordStore(config.results, config.force, HarnessJob(cache(), config.threads))
    written = []
    for outcome in made:
        record = outcome.record
        with store.lock(record.folder):
            rows = record.per_query()
            values = {name: np.array([row[name] for row in rows.values()]) for name in record.metrics}
            manifest = record.manifest.model_copy(update={"tuned": tuned.as_record()})
            run = trec.read(record.folder / records.RUN)
            tag = name_of(record.manifest.system)
            kept = store.write(record.folder, tag, run, Scores(tuple(rows), values), record.metrics, manifest)
        written.append(Outcome(kept, outcome.found))
    return Tuned(tuned.metric, tuned.dataset, tuned.grid, tuple(written))
