"""`harness export`: a trained checkpoint for sentence-transformers, or in 16 bits."""

from pathlib import Path
from typing import Annotated

import typer


def export_command(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="In our layout: folder, hub id or a packaged model.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to write; new.")],
    float16: Annotated[
        bool, typer.Option("--float16", help="The whole checkpoint in our own layout instead, weights in 16 bits.")
    ] = False,
) -> None:
    """Export the dense half of a trained checkpoint as a sentence-transformers folder, or the whole in 16 bits."""
    from harness.models import hybrid
    from harness.models.checkpoints import hub
    from harness.runtime import log

    source = hub.locate(checkpoint)
    if float16:
        from harness.models.checkpoints.export_float16 import export_float16

        export_float16(source, folder)
        size = sum(file.stat().st_size for file in folder.iterdir())
        typer.echo(f"wrote {folder} ({size / 1e6:.1f} MB)")
        return
    from harness.models.checkpoints.export_dense import export_dense

    export_dense(source, folder)
    spec = hybrid.read(source)
    if spec is not None and spec.lexical:
        log.logger.warning(
            f"the lexical half (K = {spec.lexical}) is not exported; scores will be the dense half's alone"
        )
    typer.echo(f"wrote {folder}")
