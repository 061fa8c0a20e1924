"""`harness export`: a trained checkpoint for sentence-transformers, or in 16 bits; a record's run for other tools."""

from pathlib import Path
from typing import Annotated

import typer


def export_command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|RECORD",
            help="Checkpoint in our layout: folder, hub id or packaged model. Or a record.",
        ),
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|FILE",
            help="The new folder to write; of a record a file: .trec, .trec.gz, .json, .parquet, .mteb.json (scores).",
        ),
    ],
    float16: Annotated[
        bool, typer.Option("--float16", help="The whole checkpoint in our own layout instead, weights in 16 bits.")
    ] = False,
    task: Annotated[
        str | None, typer.Option("--task", help="For .mteb.json: the task in MTEB. [the collection's, of BEIR]")
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option("--language", help="For .mteb.json: eng-Latn and the like; repeatable.")
    ] = None,
    results: Annotated[Path, typer.Option("--results", help="Where records are kept.")] = Path("results"),
) -> None:
    """Export a checkpoint's dense half for sentence-transformers, or the whole in 16 bits; or a record."""
    from harness.runs.mteb_results import END
    from harness.runs.written_runs import KINDS

    scores = folder.name.endswith(END)
    if (task is not None or language) and not scores:
        from harness.retrievers.errors import InputError

        raise InputError(
            f"--task and --language are of a file that ends in {END}, and {folder} does not. Leave them out."
        )
    if (kind := KINDS.get(folder.suffix)) is not None:
        from harness.retrievers.errors import InputError
        from harness.runs.lookup import find
        from harness.runs.results import Result

        if float16:
            raise InputError(f"{folder} is the file of a run, and --float16 is for checkpoints. Leave it out.")
        result = Result(find(checkpoint, results))
        if scores:
            typer.echo(f"wrote {result.to_mteb(folder, task=task, languages=language)}")
            return
        way = {"trec": lambda: result.to_trec(folder, header=True), "json": lambda: result.to_json(folder)}
        typer.echo(f"wrote {way.get(kind, lambda: result.to_parquet(folder))()}")
        return
    from harness.models import hybrid
    from harness.models.checkpoints import hub
    from harness.runtime import log

    refuse_record(checkpoint, folder, results)
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


def refuse_record(word: str, target: Path, results: Path) -> None:
    """Raise InputError where a record is named, and the name of the file does not say in which format to write it."""
    from harness.retrievers.errors import InputError
    from harness.runs.lookup import find
    from harness.runs.written_runs import KINDS

    try:
        record = find(word, results)
    except ValueError:
        return
    raise InputError(
        f"{record.folder} is a record, and {target} does not end in one of {', '.join(KINDS)}. Name such a file."
    )
