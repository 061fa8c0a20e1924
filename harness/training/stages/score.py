"""The stage `score`: a teacher's scores of positives and some mined negatives."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from harness.runs.config import make_retriever
from harness.training.retriever_scores import Teacher
from harness.training.stage import NEGATIVES, SCORES, TEACHER, Facts, Outlook, Stage, register, settings_in_words

if TYPE_CHECKING:
    from harness.models.training.tokens import Ragged
    from harness.training.context import Context


_PAIRS = 16_384  # of a block
_DEPTH = 1_000  # results of a query, by which a retriever teaches
Teachers = Annotated[
    tuple[Teacher, ...], Field(min_length=1), BeforeValidator(lambda one: [one] if isinstance(one, dict) else one)
]


@register
class Score(Stage):
    """A teacher's scores of each training query's positives and `candidates` of its mined negatives, cached.

    The teacher is the cross-encoder of a stage before, or a retriever, or a weighted sum of several.
    """

    kind: Literal["score"]
    candidates: int = Field(ge=1)
    query_prefix: str | None = None  # before each text of a pair, for a teacher that was trained with them
    passage_prefix: str | None = None

    teacher: Teachers | None = None
    depth: int | None = Field(None, ge=1)  # results of a query that a retriever searches for; 1,000 unless given
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["auto"] | None = None  # of a retriever's scores

    leaves = (SCORES,)
    on_queries = True
    later = ("query_prefix", "passage_prefix", "teacher", "depth", "scale")
    saved = "block-*.npy"

    def needs(self) -> tuple[str, ...]:
        """What is scored, and what scores it."""
        return (NEGATIVES,) if self.teacher else (NEGATIVES, TEACHER)

    @model_validator(mode="after")
    def _one_teacher(self) -> "Score":
        if not self.teacher and (self.depth or self.scale):
            raise ValueError("depth and scale are of a teacher that is a retriever; there is none")
        if self.teacher and (self.query_prefix is not None or self.passage_prefix is not None):
            raise ValueError("query_prefix and passage_prefix are of a cross-encoder; a retriever has options")
        return self

    def check_names(self, _outlook: Outlook) -> None:
        """A retriever must be known, and have what is said of it."""
        for teacher in self.teacher or ():
            make_retriever(teacher.spec)

    def words(self) -> str:
        """How many."""
        by = " + ".join(f"{one.weight:g} {one.retriever}" for one in self.teacher or ())
        by = self.teacher[0].retriever if self.teacher and len(self.teacher) == 1 else by or "the teacher"
        what = f"score {self.candidates:,} negative{'s' * (self.candidates > 1)} of each query with {by}"
        more = {name: value for name, value in self._chosen.items() if name != "teacher"}
        return ", ".join([what, *settings_in_words(more)])

    def check_examples(self, outlook: Outlook) -> tuple[str, ...]:
        """From here on a query has no more negatives than were scored."""
        outlook.negatives = min(outlook.negatives, self.candidates)
        return ()

    def run(self, context: "Context", name: str, folder: Path) -> Facts:
        """Let the teacher score positives and some mined negatives of each query.

        Consecutive queries are a block, whose scores are kept until all are there; each process takes every so many.
        What is scored is not scored again, by however many processes the stage goes on.
        """
        if self.teacher:
            return self._by_retrievers(context, name, folder)
        import numpy as np

        from harness.models.cross_encoder import teacher as cross_encoder
        from harness.models.training.tokens import Ragged
        from harness.training.context import token_pairs
        from harness.training.stage_outputs import read_block, read_negatives, save_block, write_scores
        from harness.training.student import special_ids

        source, accelerator = context.left(TEACHER), context.accelerator
        module, tokenizer = cross_encoder.load(source), cross_encoder.tokenizer(source)
        length = cross_encoder.trained_length(source)
        prefixes = self.query_prefix or "", self.passage_prefix or ""
        queries, passages = token_pairs(context, context.training, tokenizer, length // 2, length, *prefixes)
        kept = _sample(read_negatives(context.left(NEGATIVES)), self.candidates, context.recipe.seed)
        positives = context.training.positives
        rows = Ragged.of(np.concatenate((positives[i], kept[i])) for i in range(len(positives)))
        size = max(1, _PAIRS * len(rows) // max(1, len(rows.flat)))
        blocks = {
            folder / f"block-{low}.npy": range(low, min(low + size, len(rows))) for low in range(0, len(rows), size)
        }
        mine = list(blocks)[accelerator.process_index :: accelerator.num_processes]
        joiner = cross_encoder.Joiner(special_ids(tokenizer, source), length)
        counts = {path: int(rows.lengths[block].sum()) for path, block in blocks.items()}
        todo = [path for path in mine if read_block(path, counts[path]) is None]
        pairs = sum(counts[path] for path in todo)
        with context.job.phase(name, pairs, "pairs") as meter:
            for path in todo:
                part = Ragged.of(rows[i] for i in blocks[path])
                own = Ragged.of((queries[i] for i in blocks[path]), np.uint32)
                found = cross_encoder.score(
                    module, own, passages, part, joiner, accelerator.device, meter.advance, accelerator.autocast
                )
                save_block(path, found.flat)
        accelerator.wait_for_everyone()
        if context.main:
            scores = np.concatenate([np.load(path) for path in blocks])
            write_scores(folder, kept, Ragged(scores, rows.offsets))
            for path in blocks:
                path.unlink()
        return {"pairs": len(rows.flat)}

    def _by_retrievers(self, context: "Context", name: str, folder: Path) -> Facts:
        """A collection at a time, whose scores are kept until all are there."""
        import numpy as np

        from harness.models.training.tokens import Ragged
        from harness.training.retriever_scores import best_scale, scored
        from harness.training.stage_outputs import read_block, read_negatives, save_block, write_scores

        kept = _sample(read_negatives(context.left(NEGATIVES)), self.candidates, context.recipe.seed)
        first_query = first_document = bounds = 0
        blocks = []
        for number, collection in enumerate(context.training.collections):
            own = range(first_query, first_query + len(collection.positives))
            rows = Ragged.of(kept[n] - first_document for n in own)
            path, count = folder / f"block-{number}.npy", len(collection.positives.flat) + len(rows.flat)
            blocks.append(path)
            if read_block(path, count) is None:
                found = scored(self.teacher or (), collection, rows, self.depth or _DEPTH, context)
                if found is not None:
                    save_block(path, found[0])
                    bounds += found[1]
            first_query, first_document = own.stop, first_document + collection.dataset.count
        if not context.main:
            return {}
        positives = context.training.positives
        lengths = positives.lengths + kept.lengths
        scores = Ragged(np.concatenate([np.load(path) for path in blocks]), np.concatenate(([0], lengths.cumsum())))
        scale = best_scale(scores, positives) if self.scale in (None, "auto") else float(self.scale or 1)
        if bounds:
            context.job.note(
                f"{name}: {bounds:,} of {len(scores.flat):,} documents lie beyond the best "
                f"{self.depth or _DEPTH:,} of their query: each has the last one's score"
            )
        write_scores(folder, kept, Ragged((scale * scores.flat).astype(np.float32), scores.offsets))
        for path in blocks:
            path.unlink()
        return {"pairs": len(scores.flat), "scale": scale, "beyond_depth": bounds}


def _sample(mined: "Ragged", count: int, seed: int) -> "Ragged":
    """`count` of each query's negatives, or all where it has fewer; a pure function of the seed."""
    import numpy as np

    from harness.models.training.tokens import Ragged

    rows = []
    for number in range(len(mined)):
        row = mined[number]
        draw = np.random.default_rng([seed, number])
        rows.append(row if len(row) <= count else row[np.sort(draw.choice(len(row), count, replace=False))])
    return Ragged.of(rows)
