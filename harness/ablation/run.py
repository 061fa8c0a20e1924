"""Table 3 rebuilt: the stages of all arms, each once, and a record of what every arm leaves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.ablation import plan
from harness.ablation.grid import Arm, hidden_width
from harness.reports.ablation import frames, one_collection, results, several_collections
from harness.reports.ablation.rows import HALVES, label, widths
from harness.reports.files import write_whole
from harness.reports.records.records import Record
from harness.runs.config import RetrieverSpec, RunConfig
from harness.runs.runner import iterate
from harness.runtime.processes import Processes
from harness.runtime.stopping import Stopping
from harness.training.conductor import alone, open_context, prepare, run
from harness.training.context import Context
from harness.training.overlap import exposures
from harness.training.stages.finetune import Finetune
from harness.training.student import searched_as

_DEPTH = 1000  # R@1000


@dataclass
class Made:
    """The records of an ablation: of its rows, and of what stands beside them, by name."""

    rows: list[Record] = field(default_factory=list)
    others: dict[str, list[Record]] = field(default_factory=dict)


def ablate(
    chosen: Sequence[Arm],
    output: Path,
    command: Sequence[str],
    threads: int | None = None,
    stopping: Stopping | None = None,
) -> tuple[Context, Made]:
    """Do what is not done of every arm, and run what each leaves on the recipe's `data.evaluate`.

    All arms are checked before the first stage begins, and the plan is shown. Beside the rows are run the systems of
    `data.against`, and what the pre-trainings start from, untrained: its whole CLS vector, and that with as many terms
    as the hybrid rows keep. Nothing has cut its CLS vector to a half, so it stays whole.

    Returns the records of all arms, by arm and collection; none in the processes other than rank 0. Raises as
    `harness.training.conductor.train`.
    """
    first = open_context(chosen[0].recipe, output, threads, stopping)
    made = Made()
    with alone(first):
        contexts = [first.of(arm.recipe, arm.output, arm.folders) for arm in chosen]
        places = [prepare(context) for context in contexts]
        if first.main:
            first.job.note(plan.as_text(plan.plan(chosen, places), output))
        # first, since they take minutes and can fail for reasons of their own
        for name in first.recipe.data.against:
            for record in _measure([RetrieverSpec(name=name)], first, output, command):
                made.others.setdefault(record.manifest.system.system, []).append(record)
        for title, specs in _untrained(contexts).items():
            made.others[title] = _measure(specs, first, output, command)
        for arm, context, folders in zip(chosen, contexts, places, strict=True):
            run(context, folders, command)
            made.rows += _measure([searched_as(arm.recipe.system, arm.checkpoint)], context, output, command)
    return first, made


def _untrained(contexts: Sequence[Context]) -> dict[str, list[RetrieverSpec]]:
    """The models that the pre-trainings start from, one a seed; a checkpoint is the same for all."""
    recipe = contexts[0].recipe
    hidden = hidden_width(recipe)
    last = [*recipe.of_kind(Finetune).values()][-1]
    bases = list(dict.fromkeys(context.place("base") for context in contexts))
    word = "untrained base"
    if recipe.base.checkpoint is not None:
        bases, word = bases[:1], f"base, {Path(recipe.base.checkpoint).name}"
    same = {"query_length": last.query_length, "max_length": last.passage_length, "dense": hidden}
    return {
        f"{word}, {label(hidden, kept)}": [
            RetrieverSpec(name="dupmae", options={"checkpoint": str(base), "lexical": kept} | same) for base in bases
        ]
        for kept in (0, widths(HALVES, hidden)[1])
    }


def _measure(specs: list[RetrieverSpec], context: Context, output: Path, command: Sequence[str]) -> list[Record]:
    config = RunConfig(
        retrievers=[_as_trained(spec, context.recipe.precision) for spec in specs],
        datasets=[context.recipe.place(name) for name in context.recipe.data.evaluate],
        results=output / "results",
        threads=context.job.threads,
        metrics=list(one_collection.SHOWN),
        top_k=_DEPTH,
    )
    return [outcome.record for outcome in iterate(config, command, Processes.launched())]


def _as_trained(spec: RetrieverSpec, precision: str) -> RetrieverSpec:
    """A checkpoint is measured in the recipe's precision: bf16 takes half as long as fp32 on a CPU that has it."""
    if "checkpoint" not in spec.options or precision not in ("fp32", "bf16"):  # fp16 is for training alone
        return spec
    return spec.model_copy(update={"options": spec.options | {"precision": precision}})


def report(context: Context, made: Made, output: Path) -> str:
    """Table 3 as Markdown; `table3.csv`, `claims.csv`, `pooled.csv` and `table3.md` are written into `output`.

    `table3.md` has each of several collections with all its metrics after what is returned.
    """
    found = results.gather(made.rows, made.others, exposures(context))
    for name, table in (
        ("table3.csv", frames.cells(found)),
        ("claims.csv", frames.claims(found)),
        ("pooled.csv", frames.pooled(found)),
    ):
        if len(table):
            write_whole(output / name, table.to_csv(index=False, lineterminator="\n"))
        else:  # of another `data.evaluate`
            (output / name).unlink(missing_ok=True)
    write_whole(output / "table3.md", several_collections.as_markdown(found, whole=True))
    return several_collections.as_markdown(found)
