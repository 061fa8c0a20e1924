"""`harness table`: the paper's tables from records, the published numbers beside them."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Json

_FORMATS = ("md", "csv", "latex")


def table_command(
    table: Annotated[int, typer.Argument(help="1, 2 or 3, as the paper numbers them.", metavar="1|2|3")],
    form: Annotated[str, typer.Option("--format", "-f", help="md, csv (a line for each cell) or latex.")] = "md",
    results: Annotated[Path | None, typer.Option("--results", help="Where records are kept. [results]")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-O", help="Write to a file instead.")] = None,
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", help="Greatest difference that is `reproduced`. [rounding alone]")
    ] = None,
    on: Annotated[
        str | None,
        typer.Option("--on", help="Collection in the place of MS MARCO Dev, as `harness list runs` has it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print Table 1, 2 or 3 of the paper: measured scores beside published ones, and what each comparison is worth."""
    from harness.reports import files
    from harness.reports.records import records
    from harness.reports.tables import builder
    from harness.retrievers.errors import InputError, unknown
    from harness.runtime import log

    if form not in _FORMATS:
        raise unknown("format", form, _FORMATS)
    if tolerance is not None and not 0 <= tolerance <= 1:
        raise InputError(f"--tolerance {tolerance:g}: want a difference of scores, between 0 and 1.")
    if on is not None and table == 2:
        raise InputError("--on puts a collection in the place of MS MARCO Dev, which Table 2 does not have.")
    folder = results or Path("results")
    if results is not None and not results.is_dir():
        raise InputError(f"there is no folder {results}. Run something first, or name the folder that has the records.")
    if output is not None:
        files.check_output(output)
    found, problems = records.find(folder)
    if not found:
        problems.append(f"no record in {folder}: every cell is what the paper printed. `harness run` makes records.")
    names = {name for record in found for name in (record.manifest.data.name, record.manifest.data.dataset_id)}
    if on is not None and on not in names:
        raise unknown("dataset of a record", on, names)
    made = builder.build(table, found, tolerance, {"MS MARCO Dev": on} if on else None)
    for problem in problems:
        log.logger.warning(problem)
    for remark in made.remarks:
        log.note(remark)
    forms = {"md": made.to_markdown, "csv": made.to_csv, "latex": made.to_latex, "json": made.to_json}
    text = forms["json" if as_json else form]()
    if form == "csv" and not as_json:
        for note in made.notes:
            log.note(note)
    if output is None:
        typer.echo(text, nl=False)
        return
    files.write_whole(output, text)
    log.logger.info(f"wrote {output}")
