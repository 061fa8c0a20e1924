"""`harness export`: the dense half of a trained checkpoint for sentence-transformers."""

from pathlib import Path
from typing import Annotated

import typer


def export_command(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="In our layout: folder or hub id.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The sentence-transformers folder to write; new.")],
) -> None:
    """Export the dense half of a trained checkpoint as a sentence-transformers folder."""
    from models import hub, hybrid
    from models.export import export_dense

    source = hub.locate(checkpoint)
    export_dense(source, folder)
    spec = hybrid.read(source)
    if spec is not None and spec.lexical:
        typer.echo(
            f"warning: the lexical half (K = {spec.lexical}) is not exported; scores will be the dense half's alone",
            err=True,
        )
    typer.echo(f"wrote {folder}")
