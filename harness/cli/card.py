"""`harness card`: the card of a model that is given away."""

from pathlib import Path
from typing import Annotated

import typer


def card_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The checkpoint; its README.md is written.")],
    stage: Annotated[Path, typer.Option("--stage", help="The stage of a training that it was exported from.")],
    words: Annotated[Path, typer.Option("--words", help="YAML: title, summary, sources, limits, licence ….")],
    record: Annotated[
        list[str] | None,
        typer.Option("--record", help="A record for the scores, as `harness compare` takes it; repeat for several."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="The recipe of that training.", show_default="the one its stage names"),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Its changes, as `harness train` takes them.")] = None,
    results: Annotated[Path, typer.Option("--results", help="Where records are kept.")] = Path("results"),
) -> None:
    """Write a model's card from what its training and its runs left: data, recipe, seeds, cost, scores, limits."""
    from harness.reports.card import read_words
    from harness.reports.files import write_whole
    from harness.retrievers.errors import InputError
    from harness.runs.lookup import find
    from harness.training.card import make, seen

    if not record:
        raise InputError("a card wants scores. Give --record RECORD, once for each run of this folder.")
    records, said = [find(word, results) for word in record], read_words(words)
    text = make(folder, stage, said, records, seen(recipe, set_ or [], stage, records))
    write_whole(folder / "README.md", text)
    typer.echo(f"wrote {folder / 'README.md'}")
