"""Small tables on standard output."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from harness.retrievers.errors import InputError

if TYPE_CHECKING:
    from harness.runs.runner import Outcome

_WIDE = 1000  # nothing is wrapped or cut by us


def _console(stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, markup=False, width=_WIDE)


def _table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def outcomes_table(outcomes: Sequence["Outcome"]) -> None:
    """The scores of a `harness run`, and where each record lies."""
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.record.metrics))
    table = _table("dataset", "retriever", numbers=names)
    for outcome in outcomes:
        manifest, metrics = outcome.record.manifest, outcome.record.metrics
        values = [f"{metrics[name]:.4f}" if name in metrics else "" for name in names]
        table.add_row(manifest.data.name, _label(manifest.system.retriever, manifest.system.variant), *values)
    console = _console()
    console.print(table)
    for outcome in outcomes:
        console.print(f"{'found' if outcome.found else 'wrote'} {outcome.record.folder}", soft_wrap=True)


def _label(retriever: str, variant: str | None) -> str:
    return f"{retriever} ({variant})" if variant else retriever


def retrievers_table() -> None:
    """Every retriever and what is known of it; then the options, once for all that share them."""
    from harness.retrievers.registry import available, prefixes, problems

    columns = ("retriever", "system", "paper rows", "kind", "a document", "bytes", "checkpoint", "status", "verified")
    table, sharing = _table(*columns, "fine-tuned on", "licence", "what it is"), dict[str, list[str]]()
    for name, cls in sorted(available().items()):
        about = cls.about()
        rows = ", ".join(f"{row.table}: {row.row}" for row in about.paper_rows)
        size = "" if about.bytes_per_document is None else f"{about.bytes_per_document:,.0f}"
        words = (about.system, rows, about.kind, about.width, size, about.checkpoint or "", about.status)
        table.add_row(name, *words, about.verified or "", about.finetuned_on or "", about.licence or "", cls.summary)
        options = ", ".join(f"{key}={field.default}" for key, field in cls.Options.model_fields.items())
        sharing.setdefault(options or "none", []).append(name)
    for label, summary in prefixes().items():
        table.add_row(label, *[""] * 6, "runnable", *[""] * 3, summary)
        sharing[next(options for options, names in sharing.items() if "cls" in names)].append(label)
    console = _console()
    console.print(table)
    for options, names in sharing.items():
        console.print(f"\noptions of {', '.join(names)}:\n  {options}")
    for problem in problems().values():
        _console(stderr=True).print(f"warning: {problem}")


def datasets_table() -> None:
    """The names of our own; any ir_datasets id or folder works as well."""
    from harness.datasets.rules import ALIASES, BEIR_18, LICENSED, RULES
    from harness.runtime.paths import home

    table = _table("dataset", "stands for", "remarks")
    table.add_row("mini", "embedded", "about 300 passages and 100 queries, needs no network; the default")
    for alias, dataset_id in ALIASES.items():
        table.add_row(alias, dataset_id, _remark(dataset_id))
    for name, beir_id in BEIR_18.items():
        place = f"licensed: put it into {home() / 'datasets' / name}"
        table.add_row(name, beir_id or "your folder", place if name in LICENSED else _remark(beir_id or name))
    console = _console()
    console.print(table)
    console.print(
        f"Also any ir_datasets id, and any folder in BEIR layout: PATH or PATH/<split>. {len(RULES)} ids have rules.",
        soft_wrap=True,
    )


def _remark(dataset_id: str) -> str:
    from harness.datasets.rules import rules_for

    rules = rules_for(dataset_id)
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


def runs_table(results: Path) -> None:
    """Every record under `results`; what cannot be read is named on standard error."""
    from harness.reports.records.records import find

    if not results.is_dir():
        raise InputError(f"there is no folder {results}. Run something first, or name the folder with --results.")
    records, problems = find(results)
    names = list(dict.fromkeys(name for record in records for name in record.metrics))
    table = _table("dataset", "retriever", "made", numbers=names)
    for record in records:
        manifest = record.manifest
        values = [f"{record.metrics[name]:.4f}" if name in record.metrics else "" for name in names]
        made = manifest.created.replace("+00:00", "Z")
        label = _label(manifest.system.retriever, manifest.system.variant)
        table.add_row(f"{manifest.data.name} {record.folder.name}", label, made, *values)
    console = _console()
    if records:
        console.print(table)
    else:
        _console(stderr=True).print(f"no finished run in {results}")
    for problem in problems:
        _console(stderr=True).print(f"warning: {problem}", soft_wrap=True)


def recipes_table() -> None:
    """The recipes that come with the harness, and their stages."""
    from harness.training import recipe_files

    table = _table("recipe", "stages", "what it is")
    for name in recipe_files.names():
        recipe = recipe_files.load(name, [])
        table.add_row(name, ", ".join(recipe.stages), recipe.description)
    _console().print(table)
