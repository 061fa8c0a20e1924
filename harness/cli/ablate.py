"""`harness ablate`: Table 3 rebuilt from three pre-trainings and seven fine-tunings."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.interrupt import stoppable


def ablate_command(
    recipe: Annotated[
        str, typer.Option("--recipe", "-R", help="small, msmarco, another recipe's name, or a YAML file.")
    ] = "",
    change: Annotated[
        list[str] | None, typer.Option("--set", help="PATH=VALUE changes the recipe, such as pretrain.steps=500.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-O", help="Where stages and results are kept. [ablations/<recipe>]")
    ] = None,
    seeds: Annotated[
        int,
        typer.Option("--seeds", min=1, max=100, help="Training seeds, from the recipe's up: mean and sd over them."),
    ] = 1,
    share_pretraining: Annotated[
        bool, typer.Option("--share-pretraining", help="Pre-train with the first seed alone; the seeds fine-tune.")
    ] = False,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads to use. [all cores]")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the stages, what is done of them, and stop.")] = False,
) -> None:
    """Train and measure the eight rows of Table 3: pre-trainings and representations, resumed where it stopped."""
    from harness.reports.files import check_folder
    from harness.retrievers.errors import InputError
    from harness.training import recipe_files

    there = ", ".join(recipe_files.ablations())
    if not recipe:
        raise InputError(f"no recipe named. Give --recipe NAME or FILE; there is: {there}.")
    if output is not None and not output.name:
        raise InputError(f"--output {str(output)!r} names no folder of its own. Give one, such as ablations/mine.")
    chosen = recipe_files.load(recipe_files.ablation(recipe), change or [])
    place = output or Path("ablations") / chosen.name
    check_folder(place)
    command = ["harness", *sys.argv[1:]]
    from harness.ablation.grid import arms, hidden_width
    from harness.ablation.plan import as_text, look
    from harness.ablation.run import ablate, report

    grid = arms(chosen, hidden_width(chosen, guess=plan), place, seeds, share_pretraining)
    if plan:
        typer.echo(as_text(look(grid, place), place), nl=False)
        return
    with stoppable() as stopping:
        context, made = ablate(grid, place, command, threads, stopping)
    if context.main:
        typer.echo(report(context, made, place), nl=False)
