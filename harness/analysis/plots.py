"""Records become pictures."""

import re
from collections.abc import Sequence
from pathlib import Path

from harness.analysis.plot_selection import Named, labelled
from harness.metrics.names import parse_metric
from harness.reports.errors import RecordError
from harness.reports.plots import scores as score_plots
from harness.reports.plots import style
from harness.reports.records import records
from harness.reports.records.comparable import marked
from harness.reports.records.records import Record
from harness.reports.tables.beside_paper import mean_interval, printed
from harness.retrievers.errors import InputError
from harness.runs.lookup import check_collections, check_depths, check_names, measured, values_of


def differences(
    pair: Sequence[Record],
    metric: str,
    labels: Sequence[str] | None,
    output: Path,
    allow_shallow: bool = False,
) -> None:
    """Draw the differences of two records.

    Raises InputError where they are one record, not of one collection and its rules, or one's run is too shallow for
    the metric; RecordError where one lacks it.
    """
    from harness.reports.plots import differences as difference_plot

    style.check_output(output)
    if pair[0].folder.resolve() == pair[1].folder.resolve():
        raise InputError(f"{pair[1].folder} is given twice. Name two records.")
    check_collections(pair)
    named = labelled(pair, labels)
    if named[0].label == named[1].label:
        # the same hash in two results folders
        same = pair[0].folder.name == pair[1].folder.name
        named = [
            Named(f"{one.label} {one.record.folder if same else one.record.folder.name}", one.record) for one in named
        ]
    check_depths([one.record for one in _with(named, metric)], metric, allow_shallow)  # whatever they call it
    named = _deep(named, metric, allow_shallow)
    a, b = (values_of(one.record, metric) for one in named)
    names = named[0].label, named[1].label
    with style.styled():
        title = f"{pair[0].manifest.data.name}: {style.short(names[1], 80)} minus {style.short(names[0], 80)}"
        style.save(difference_plot.differences(a, b, names, str(parse_metric(metric)), title), output)


def _with(chosen: Sequence[Named], metric: str) -> Sequence[Named]:
    """The same records. Raises RecordError where one was not scored by the metric."""
    for one in chosen:
        if metric not in measured(one.record):
            raise RecordError(
                f"{one.record.folder} has no {metric}; there is {', '.join(one.record.metrics)}. `harness run` with "
                f"--metric {metric} adds it without searching again."
            )
    return chosen


def _deep(chosen: Sequence[Named], metric: str, allow_shallow: bool) -> list[Named]:
    """The same records, of each collection's those that are shallower than the others marked, if they may be."""
    found = list(chosen)
    for name in dict.fromkeys(one.record.manifest.data.name for one in chosen):
        here = [n for n, one in enumerate(chosen) if one.record.manifest.data.name == name]
        depths = check_depths([chosen[n].record for n in here], metric, allow_shallow)
        for n, depth in zip(here, depths, strict=True):
            found[n] = Named(marked(chosen[n].label, depth), chosen[n].record)
    return found


def recalls(cutoffs: str | None) -> list[str]:
    """The metrics that a picture of recall is drawn from."""
    return [f"R@{k}" for k in (_cutoffs(cutoffs) if cutoffs is not None else (10, 50, 100, 1000))]


def recall(chosen: Sequence[Named], cutoffs: str | None, output: Path, allow_shallow: bool = False) -> None:
    """Draw recall by cutoff: of the records' own R@k, or scored anew from their runs at `cutoffs` ("1,10,100").

    Raises InputError as `bars`.
    """
    style.check_output(output)
    check_names([one.record for one in chosen])
    if cutoffs is None:
        found = [_known(one) for one in chosen]
        if empty := [one for one, at in zip(chosen, found, strict=True) if not at]:
            raise RecordError(f"{empty[0].record.folder} has no R@k. Name --cutoffs, or run with --metric R@10.")
    else:
        wanted = _cutoffs(cutoffs)
        found = [_scored(one, wanted) for one in chosen]
    deepest = max(k for at in found for k in at)
    lines = [_line(one, at) for one, at in zip(_deep(chosen, f"R@{deepest}", allow_shallow), found, strict=True)]
    with style.styled():
        style.save(score_plots.recall(lines), output)


def _line(one: Named, at: dict[int, float]) -> score_plots.Recall:
    return score_plots.Recall(one.label, one.record.manifest.data.name, at)


def _known(one: Named) -> dict[int, float]:
    values = one.record.metrics.items()
    return {int(name.removeprefix("R@")): value for name, value in values if re.fullmatch(r"R@\d+", name)}


def _cutoffs(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[1-9]\d{0,8}", word) for word in words):
        raise InputError(f"--cutoffs {text!r}: want ranks from 1 up with commas between them, such as 1,10,100.")
    return sorted({int(word) for word in words})


def _scored(one: Named, cutoffs: Sequence[int]) -> dict[int, float]:
    """Recall of a record's own run. Raises InputError where its judgments cannot be had or are no longer the same."""
    from harness.datasets.loader import resolve
    from harness.metrics.names import parse_metrics
    from harness.metrics.scoring import score
    from harness.retrievers.places import cache_or_temporary
    from harness.retrievers.run_files import trec
    from harness.runs.recorded_data import asked_name, fields_of
    from harness.runtime.job import HarnessJob

    data, top_k = one.record.manifest.data, one.record.manifest.top_k
    if deep := [k for k in cutoffs if k > top_k]:
        raise InputError(f"--cutoffs {', '.join(map(str, deep))}: the run {one.record.folder} has {top_k:,} results.")
    found = resolve(asked_name(data), queries_with_text=data.rules.queries_with_text, fields=fields_of(data))
    if len(found) > 1:
        raise InputError(
            f"{data.name} is a mean over {len(found)} collections: draw its parts, or leave out --cutoffs."
        )
    dataset = found[0]
    dataset.open(HarnessJob(cache_or_temporary()))
    if dataset.qrels_hash != data.qrels_hash:
        raise InputError(
            f"the judgments of {data.name} are no longer those that {one.record.folder} was scored with. Run it again, "
            "or leave out --cutoffs."
        )
    metrics = parse_metrics(f"R@{k}" for k in cutoffs)
    values = score(
        trec.read(one.record.folder / records.RUN),
        dataset.qrels,
        metrics,
        measured(one.record).levels,
    ).mean()
    return {k: values[f"R@{k}"] for k in cutoffs}


def bars(chosen: Sequence[Named], metric: str, output: Path, allow_shallow: bool = False) -> None:
    """Draw `plots.bars` of the records.

    Raises InputError where two collections have one name, or one's run is too shallow for the metric, unless
    `allow_shallow` marks it.
    """
    style.check_output(output)
    points = _points(chosen, metric, allow_shallow)
    with style.styled():
        style.save(score_plots.bars(points, str(parse_metric(metric))), output)


def cost(chosen: Sequence[Named], metric: str, output: Path, allow_shallow: bool = False) -> None:
    """Draw `plots.cost` of the records. Raises InputError as `bars`."""
    style.check_output(output)
    points = _points(chosen, metric, allow_shallow)
    with style.styled():
        style.save(score_plots.cost(points, str(parse_metric(metric))), output)


def _points(chosen: Sequence[Named], metric: str, allow_shallow: bool) -> list[score_plots.Point]:
    check_names([one.record for one in chosen])
    return [_point(one, metric) for one in _deep(_with(chosen, metric), metric, allow_shallow)]


def _point(one: Named, metric: str) -> score_plots.Point:
    manifest = one.record.manifest
    hardware = manifest.cost.hardware
    metric = measured(one.record).kept_as(metric) or metric
    low, high = mean_interval(one.record, metric)
    return score_plots.Point(
        system=one.label,
        dataset=manifest.data.name,
        value=one.record.metrics[metric],
        low=low,
        high=high,
        published=printed(one.record, metric),
        bytes_here=manifest.system.bytes_per_document,
        bytes_paper=manifest.system.bytes_per_document_paper,
        queries_per_second=manifest.cost.queries_per_second,
        machine=", ".join(str(hardware.get(name)) for name in ("processor", "cores", "threads", "processes")),
    )
