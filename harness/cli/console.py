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
    from harness.runs.runner import Outcome


_WIDE = 1000  # in a file or a pipe nothing is wrapped or cut


def print_json(value: Any) -> None:
    """Write one JSON document, and nothing else."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _console() -> Console:
    """Standard output: as wide as its terminal, or as COLUMNS says; without limit elsewhere."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = _WIDE
    return console


def _table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """The first column and numbers stay whole where the terminal is narrow; other columns go on in the next line."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def outcomes_table(outcomes: Sequence["Outcome"], as_json: bool = False) -> None:
    """The scores of a `harness run`, and where each record lies."""
    if as_json:
        print_json([_facts(outcome.record) | {"found": outcome.found} for outcome in outcomes])
        return
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


def _facts(record: "Record") -> dict[str, Any]:
    """What JSON says of a record."""
    manifest = record.manifest
    return {
        "dataset": manifest.data.name,
        "retriever": manifest.system.retriever,
        "variant": manifest.system.variant,
        "record": str(record.folder),
        "created": manifest.created,
        "metrics": record.metrics,
    }


def _known_retriever(name: str, cls: "type[Retriever]") -> dict[str, Any]:
    """All that is known of a retriever before it runs; what is not known is None."""
    about = cls.about()
    return {
        "retriever": name,
        "what it is": cls.summary,
        "system": about.system or None,
        "paper rows": [f"Table {row.table}: {row.row}" for row in about.paper_rows],
        "kind": about.kind or None,
        "a document": about.width or None,
        "bytes per document": about.bytes_per_document,
        "checkpoint": about.checkpoint,
        "status": about.status,
        "verified": about.verified,
        "fine-tuned on": about.finetuned_on,
        "licence": about.licence,
        "options": {key: field.default for key, field in cls.Options.model_fields.items()},
    }


def retrievers_table(name: str | None, as_json: bool) -> None:
    """A line for every retriever; all that is known of the one called `name`. Raises InputError for an unknown one."""
    from harness.retrievers.registry import available, get, prefixes, problems

    for problem in problems().values():
        log.logger.warning(problem)
    every = {one: _known_retriever(one, cls) for one, cls in sorted(available().items())} if name is None else {}
    if name is not None:
        found = _known_retriever(name, get(name))
        print_json(found) if as_json else _print_facts(found)
    elif as_json:
        families = [{"retriever": label, "what it is": summary} for label, summary in prefixes().items()]
        print_json([*every.values(), *families])
    else:
        table = _table("retriever", "kind", "status", "what it is")
        for one, found in every.items():
            table.add_row(one, found["kind"] or "", found["status"], found["what it is"])
        for label, summary in prefixes().items():
            table.add_row(label, "", "runnable", summary)
        console = _console()
        console.print(table)
        console.print("`harness list retrievers NAME` shows all that is known of one, and its options.")


def _print_facts(found: Mapping[str, Any]) -> None:
    """A line for each fact that is known."""
    table = _table("", "")
    table.show_header = False
    for key, value in found.items():
        if key == "options":
            continue
        if said := _said(value):
            table.add_row(key, said)
    for key, value in found["options"].items():
        table.add_row(f"--option {key}=", "" if value is None else str(value))
    _console().print(table)


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:,.0f}" if isinstance(value, float) else str(value or "")


def datasets_table(as_json: bool) -> None:
    """The names of our own; any ir_datasets id or folder works as well."""
    from harness.datasets.rules import ALIASES, BEIR_18, LICENSED, RULES
    from harness.runtime.paths import home

    rows = [("mini", "embedded", "about 300 passages and 100 queries, needs no network; the default")]
    rows += [(alias, dataset_id, _remark(dataset_id)) for alias, dataset_id in ALIASES.items()]
    for name, beir_id in BEIR_18.items():
        place = f"licensed: put it into {home() / 'datasets' / name}"
        rows.append((name, beir_id or "your folder", place if name in LICENSED else _remark(beir_id or name)))
    columns = ("dataset", "stands for", "remarks")
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    table = _table(*columns)
    for row in rows:
        table.add_row(*row)
    console = _console()
    console.print(table)
    console.print(
        f"Also any ir_datasets id, and any folder in BEIR layout: PATH or PATH/<split>. {len(RULES)} ids have rules."
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


def runs_table(results: Path, as_json: bool) -> None:
    """Every record under `results`; what cannot be read is named on standard error."""
    from harness.reports.records.records import find

    if not results.is_dir():
        raise InputError(f"there is no folder {results}. Run something first, or name the folder with --results.")
    records, problems = find(results)
    for problem in problems:
        log.logger.warning(problem)
    if as_json:
        print_json([_facts(record) for record in records])
        return
    names = list(dict.fromkeys(name for record in records for name in record.metrics))
    table = _table("dataset", "retriever", "made", numbers=names)
    for record in records:
        manifest = record.manifest
        values = [f"{record.metrics[name]:.4f}" if name in record.metrics else "" for name in names]
        made = manifest.created.replace("+00:00", "Z")
        label = _label(manifest.system.retriever, manifest.system.variant)
        table.add_row(f"{manifest.data.name} {record.folder.name}", label, made, *values)
    if records:
        _console().print(table)
    else:
        log.notice(f"no finished run in {results}")


def recipes_table(as_json: bool) -> None:
    """The recipes that come with the harness, and their stages."""
    from harness.training import recipe_files

    recipes = {name: recipe_files.load(name, []) for name in recipe_files.names()}
    if as_json:
        print_json([{"recipe": n, "stages": list(r.stages), "what it is": r.description} for n, r in recipes.items()])
        return
    table = _table("recipe", "stages", "what it is")
    for name, recipe in recipes.items():
        table.add_row(name, ", ".join(recipe.stages), recipe.description)
    _console().print(table)
