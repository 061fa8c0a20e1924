"""Table 3 rebuilt: the stages of all arms, each once, and a record of what every arm leaves."""

from collections.abc import Sequence
from pathlib import Path

from harness import ablation_plan
from harness.arms import Arm
from harness.config import RetrieverSpec, RunConfig
from harness.recipe_file import placed
from harness.runner import iterate
from harness.training import alone, open_context, prepare, run
from harness.training_context import Context
from reports import ablation_results, ablation_table
from reports.files import write_whole
from reports.records import Record

_DEPTH = 1000  # R@1000


def ablate(
    chosen: Sequence[Arm], output: Path, command: Sequence[str], threads: int | None = None
) -> tuple[Context, list[Record]]:
    """Do what is not done of every arm, and run what each leaves on the recipe's `data.evaluate`.

    All arms are checked before the first stage begins, and the plan is shown. Returns the records of all arms, by arm
    and collection; none in the processes other than rank 0. Raises as `harness.training.train`.
    """
    first = open_context(chosen[0].recipe, output, threads)
    found: list[Record] = []
    with alone(first):
        contexts = [first.of(arm.recipe, arm.output, arm.folders) for arm in chosen]
        places = [prepare(context) for context in contexts]
        if first.main:
            first.job.note(ablation_plan.as_text(ablation_plan.plan(chosen, places), output))
        for arm, context, folders in zip(chosen, contexts, places, strict=True):
            run(context, folders, command)
            found += _measure(arm, context, output, command)
    return first, found


def _measure(arm: Arm, context: Context, output: Path, command: Sequence[str]) -> list[Record]:
    config = RunConfig(
        retrievers=[RetrieverSpec(name=arm.recipe.system, options={"checkpoint": str(arm.checkpoint)})],
        datasets=[placed(name, context.root) for name in arm.recipe.data.evaluate],
        results=output / "results",
        threads=context.job.threads,
        metrics=list(ablation_table.SHOWN),
        top_k=_DEPTH,
    )
    return [outcome.record for outcome in iterate(config, command)]


def report(records: Sequence[Record], output: Path) -> str:
    """Table 3 as Markdown; `table3.csv` and `claims.csv` are written into `output`."""
    found = ablation_results.gather(records)
    for name, table in (
        ("table3.csv", ablation_table.frame(found)),
        ("claims.csv", ablation_table.claims_frame(found)),
    ):
        write_whole(output / name, table.to_csv(index=False, lineterminator="\n"))
    return ablation_table.as_markdown(found)
