"""`harness train`: a recipe from its first stage to its last."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.interrupt import stoppable


def train_command(
    recipe: Annotated[str, typer.Option("--recipe", "-R", help="A recipe's name, or a YAML file.")] = "",
    change: Annotated[
        list[str] | None, typer.Option("--set", help="PATH=VALUE changes the recipe, such as pretrain.steps=500.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-O", help="Where the stages are kept. [trained/<recipe>]")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads to use. [all cores]")] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print what each stage will do, and the recipe as it came out; stop."),
    ] = False,
    evaluate: Annotated[bool, typer.Option(help="Run each stage's checkpoint on the recipe's collections.")] = True,
) -> None:
    """Train a retriever by a recipe: pre-training, fine-tuning, mining, distillation; resumed where it stopped."""
    from harness.retrievers.errors import InputError
    from harness.training import recipe_files

    if not recipe:
        raise InputError(f"no recipe named. Give --recipe NAME or FILE; there is: {', '.join(recipe_files.names())}.")
    chosen = recipe_files.load(recipe, change or [])
    if plan:
        typer.echo(recipe_files.as_plan(chosen), nl=False)
        return
    from harness.training.conductor import train

    if output is not None and not output.name:
        raise InputError(f"--output {str(output)!r} names no folder of its own. Give one, such as trained/mine.")
    place = output or Path("trained") / chosen.name
    command = ["harness", *sys.argv[1:]]
    with stoppable() as stopping:
        context = train(chosen, place, command, threads, stopping)
        if not evaluate or not chosen.data.evaluate:
            return
        from harness.training import evaluation

        rows = evaluation.evaluate(context, command)
        if context.main:
            typer.echo(evaluation.as_text(rows), nl=False)
