"""Small tables on standard output, or one JSON document."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from harness.retrievers.errors import InputError
from harness.runtime import log

if TYPE_CHECKING:
    from harness.reports.records.records import Record
    from harness.retrievers.registry import Retriever
    from harness.runs.record_store import Outcome
    from harness.runs.suites import SuiteMean
    from harness.runs.tuning import Tuned


_WIDE = 1000  # in a file or a pipe nothing is wrapped or cut
_LEAST = 16  # letters of a last column that goes on in the next line


def print_json(value: Any) -> None:
    """Write one JSON document, and nothing else."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


class _Output(Console):
    """Standard output. Once its reader is gone, writing raises BrokenPipeError, as a plain `print` does."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console() -> Console:
    """Standard output: as wide as its terminal, or as COLUMNS says; without limit elsewhere."""
    console = _Output(highlight=False, markup=False)
    columns = os.environ.get("COLUMNS", "")
    if not console.is_terminal and not (columns.isdigit() and int(columns)):
        console.width = _WIDE
    return console


def _show(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> None:
    """Print a table, of which the last `numbers` columns are numbers.

    Where the terminal is narrow a last column of words goes on in the next line. Where it is too narrow even so, each
    row is a paragraph, so that no number or name is cut.
    """
    console = _console()
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    needed = sum(widths) + 2 * len(widths)
    if needed > console.width and not numbers:
        needed += min(widths[-1], _LEAST) - widths[-1]
    if needed > console.width:
        for row in rows:
            for number, (column, cell) in enumerate(zip(columns, row, strict=True)):
                if cell:
                    console.print(
                        f"{'  ' * (number > 0)}{column + ': ' if column else ''}{cell}", soft_wrap=bool(numbers)
                    )
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=any(columns))
    for number, column in enumerate(columns):
        words = number < len(columns) - numbers
        last = words and number == len(columns) - 1
        table.add_column(column, justify="left" if words else "right", no_wrap=not last, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def outcomes_table(finished: Sequence["Outcome | SuiteMean"], as_json: bool = False) -> None:
    """The scores of a `harness run`, and where each record lies; then the means over suites."""
    from harness.runs.record_store import Outcome

    outcomes = [one for one in finished if isinstance(one, Outcome)]
    means = [one for one in finished if not isinstance(one, Outcome)]
    if as_json:
        found = [_facts(outcome.record) | {"found": outcome.found} for outcome in outcomes]
        print_json([*found, *map(_mean_facts, means)])
        return
    from harness.reports.records.labels import labels

    names = _metrics([outcome.record for outcome in outcomes])
    called = iter(labels([outcome.record for outcome in outcomes] + [mean.first for mean in means]))
    rows = []
    for outcome in outcomes:
        rows.append((outcome.record.manifest.data.name, next(called), *_cells(outcome.record, names)))
    for mean in means:
        values = mean.mean
        cells = [f"{values[name]:.4f}" if name in values else "" for name in names]
        rows.append((f"{mean.suite}: mean, {mean.counted}", next(called), *cells))
    _show(("dataset", "retriever", *names), rows, len(names))
    for outcome in outcomes:
        _console().print(f"{'found' if outcome.found else 'wrote'} {outcome.record.folder}", soft_wrap=True)
    for mean in means:
        _console().print(f"wrote {mean.path}", soft_wrap=True)


def _mean_facts(mean: "SuiteMean") -> dict[str, Any]:
    """What JSON says of a system's mean over a suite."""
    from harness.reports.records.labels import name_of

    system = mean.first.manifest.system
    return {
        "suite": mean.suite,
        "retriever": system.retriever,
        "name": name_of(system),
        "variant": system.variant,
        "collections": list(mean.members),
        "of": mean.of,
        "metrics": mean.mean,
        "file": str(mean.path),
    }


def _metrics(records: Sequence["Record"]) -> list[str]:
    """The metrics that any of them has, each once, with the level written out where it is not 1."""
    return list(dict.fromkeys(name for record in records for name in _shown(record)))


def _shown(record: "Record") -> dict[str, str]:
    """The names of a record's metrics, by what they are shown as: MRR(rel=2)@10 for MRR@10 on DL'19."""
    from harness.metrics.names import parse_metric
    from harness.runs.lookup import measured

    levels = measured(record).levels
    return {str(parse_metric(name).at(levels)): name for name in record.metrics}


def _cells(record: "Record", names: Sequence[str]) -> list[str]:
    """The scores; those of a metric that looks deeper than the run goes are marked."""
    from harness.reports.records.comparable import depth, looks_to, marked

    there = _shown(record)

    def cell(name: str) -> str:
        cutoff = looks_to(name)  # of one without, every result of the run counts, however many there are
        return marked(f"{record.metrics[name]:.4f}", depth(record, cutoff) if cutoff else None)

    return [cell(there[name]) if name in there else "" for name in names]


def _facts(record: "Record") -> dict[str, Any]:
    """What JSON says of a record."""
    from harness.reports.records.comparable import depth, looks_to
    from harness.reports.records.labels import name_of

    manifest = record.manifest
    return {
        "dataset": manifest.data.name,
        "retriever": manifest.system.retriever,
        "name": name_of(manifest.system),
        "variant": manifest.system.variant,
        "record": str(record.folder),
        "created": manifest.created,
        "metrics": record.metrics,
        "cut_at": depth(record, max((looks_to(name) or 0 for name in record.metrics), default=0)),
    }


def _known_retriever(name: str, cls: "type[Retriever]") -> dict[str, Any]:
    """All that is known of a retriever before it runs; what is not known is None."""
    about = cls.about()
    return {
        "retriever": name,
        "summary": cls.summary,
        "system": about.system or None,
        "paper_rows": [f"Table {row.table}: {row.row}" for row in about.paper_rows],
        "kind": about.kind or None,
        "width": about.width or None,
        "bytes_per_document": about.bytes_per_document,
        "checkpoint": about.checkpoint,
        "status": about.status,
        "verified": about.verified,
        "finetuned_on": about.finetuned_on,
        "licence": about.licence,
        "options": {key: field.default for key, field in cls.Options.model_fields.items()},
    }


def retrievers_table(name: str | None, as_json: bool) -> None:
    """A line for every retriever; all that is known of the one called `name`. Raises InputError for an unknown one."""
    from harness.retrievers.registry import available, get, prefixes, problems

    for problem in problems().values():
        log.logger.warning(problem)
    if name is not None:
        found = _known_retriever(name, get(name))
        print_json(found) if as_json else _print_facts(found)
        return
    every = {one: _known_retriever(one, cls) for one, cls in sorted(available().items())}
    if as_json:
        nothing = dict.fromkeys(next(iter(every.values())))
        families = [nothing | {"retriever": label, "summary": summary} for label, summary in prefixes().items()]
        print_json([*every.values(), *families])
    else:
        rows = [(one, found["kind"] or "", found["status"], found["summary"]) for one, found in every.items()]
        rows += [(label, "", "runnable", summary) for label, summary in prefixes().items()]
        _show(("retriever", "kind", "status", "what it is"), rows)
        _console().print("`harness list retrievers NAME` shows all that is known of one, and its options.")


def _print_facts(found: Mapping[str, Any]) -> None:
    """A line for each fact that is known."""
    rows = []
    for key, value in found.items():
        if key == "options":
            continue
        if said := _said(value):
            rows.append((key.replace("_", " "), said))
    for key, value in found["options"].items():
        rows.append((f"--option {key}=", "" if value is None else str(value)))
    _show(("", ""), rows)


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:,.0f}" if isinstance(value, float) else str(value or "")


def datasets_table(as_json: bool) -> None:
    """The names of our own; any ir_datasets id or folder works as well."""
    from harness.datasets.rules import ALIASES, BEIR_18, LICENSED, RULES
    from harness.datasets.suites import ABOUT, SUITES
    from harness.retrievers.places import home

    try:
        own = home() / "datasets"
    except InputError:  # of a user without a home
        own = Path("$HARNESS_HOME/datasets")
    rows = [("mini", "embedded", "about 300 passages and 100 queries, needs no network; the default")]
    rows += [(alias, dataset_id, _remark(dataset_id)) for alias, dataset_id in ALIASES.items()]
    for name, beir_id in BEIR_18.items():
        place = f"licensed: put it into {own / name}"
        rows.append((name, beir_id or "your folder", place if name in LICENSED else _remark(beir_id or name)))
    rows += [
        (
            "hf:ORG/NAME[@REVISION][/SPLIT]", "Hugging Face hub",
            f"in the layout of BEIR, MTEB or NanoBEIR; your copies in {own / 'hf' / 'ORG' / 'NAME'}; hf:./FOLDER",
        ),
        ("mteb:TASK[/SPLIT]", "Hugging Face hub", "a retrieval task of MTEB, with its revision, split and rules"),
    ]  # fmt: skip
    rows += [(name, f"suite of {len(members)}", ABOUT[name]) for name, members in SUITES.items()]
    if as_json:
        print_json([dict(zip(("dataset", "dataset_id", "remarks"), row, strict=True)) for row in rows])
        return
    _show(("dataset", "stands for", "remarks"), rows)
    _console().print(
        f"Also any ir_datasets id, and any folder in BEIR layout: PATH or PATH/<split>. {len(RULES)} ids have rules. "
        "Suites of your own: `suites: {NAME: [mini, …]}` in a --config."
    )


def _remark(dataset_id: str) -> str:
    from harness.datasets.rules import our_rules

    rules = our_rules(dataset_id)
    return "; ".join(
        text
        for wanted, text in (
            (rules.drop_self, "the query's own document is dropped"),
            (rules.binary_level > 1, f"MRR and recall count grades from {rules.binary_level}"),
            (bool(rules.mean_of), f"mean of {len(rules.mean_of)} forums"),
            (rules.titles_wanted, "the paper's systems had titles: see --titles"),
        )
        if wanted
    )


def runs_table(results: Path, as_json: bool) -> None:
    """Every record under `results`; what cannot be read is named on standard error."""
    from harness.reports.records.comparable import unlike_of_a_name
    from harness.reports.records.labels import labels
    from harness.reports.records.records import find

    if not results.is_dir():
        raise InputError(f"there is no folder {results}. Run something first, or name the folder with --results.")
    records, problems = find(results)
    for problem in problems + unlike_of_a_name(records):
        log.logger.warning(problem)
    if as_json:
        print_json([_facts(record) for record in records])
        return
    names = _metrics(records)
    rows = []
    for record, called in zip(records, labels(records), strict=True):
        manifest = record.manifest
        made = manifest.created.replace("+00:00", "Z")
        cells = _cells(record, names)
        rows.append((f"{manifest.data.name} {record.folder.name}", called, made, *cells))
    if records:
        _show(("dataset", "retriever", "made", *names), rows, len(names))
    else:
        log.note(f"no finished run in {results}")


def tuning_table(tuned: "Tuned", as_json: bool) -> None:
    """The grid, the best of it in the first line, and what it gave."""
    if as_json:
        print_json(tuned.as_record() | {"records": [_facts(outcome.record) for outcome in tuned.outcomes]})
        return

    def shown(value: Any) -> str:
        return f"{value:g}" if isinstance(value, float) else str(value)

    best_first = sorted(tuned.grid, key=lambda point: -point[1])
    cells = [(*map(shown, values.values()), f"{score:.4f}") for values, score in best_first]
    _show((*tuned.chosen, f"{tuned.metric} on {tuned.dataset}"), cells, 1)
    log.note("chosen: " + ", ".join(f"{name} {shown(value)}" for name, value in tuned.chosen.items()))
    if tuned.outcomes:
        outcomes_table(tuned.outcomes, as_json)


def metrics_table(as_json: bool) -> None:
    """Every metric: its names, its settings, what it is, and who computes it."""
    from harness.metrics.measure import families

    known = families().values()
    if as_json:
        print_json(
            [
                {
                    "metric": family.spelling, "also": list(family.others), "settings": list(family.options),
                    "summary": family.summary, "by": family.by, "source": family.source,
                }
                for family in known
            ]
        )  # fmt: skip
        return
    rows = [(f.spelling, ", ".join(f.others), ", ".join(f"{o}=" for o in f.options), f.summary, f.by) for f in known]
    _show(("metric", "other names", "settings", "what it is", "computed by"), rows)


def recipes_table(as_json: bool) -> None:
    """The recipes that come with the harness, and their stages."""
    from harness.training import recipe_files

    recipes = {name: recipe_files.load(name, []) for name in recipe_files.names()}
    if as_json:
        print_json([{"recipe": n, "stages": list(r.stages), "summary": r.description} for n, r in recipes.items()])
        return
    rows = [(name, ", ".join(recipe.stages), recipe.description) for name, recipe in recipes.items()]
    _show(("recipe", "stages", "what it is"), rows)
