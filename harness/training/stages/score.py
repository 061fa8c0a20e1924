"""The stage `score`: the teacher's scores of positives and some mined negatives."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.training.stage import NEGATIVES, SCORES, TEACHER, Facts, Outlook, Stage, register, settings_in_words

if TYPE_CHECKING:
    from harness.models.training.tokens import Ragged
    from harness.training.context import Context


_PAIRS = 16_384  # of a block


@register
class Score(Stage):
    """The teacher's scores of each training query's positives and `candidates` of its mined negatives, cached."""

    kind: Literal["score"]
    candidates: int = Field(ge=1)
    query_prefix: str | None = None  # before each text of a pair, for a teacher that was trained with them
    passage_prefix: str | None = None

    leaves = (SCORES,)
    on_queries = True
    later = ("query_prefix", "passage_prefix")
    saved = "block-*.npy"

    def needs(self) -> tuple[str, ...]:
        """What is scored, and what scores it."""
        return NEGATIVES, TEACHER

    def words(self) -> str:
        """How many."""
        what = f"score {self.candidates:,} negative{'s' * (self.candidates > 1)} of each query with the teacher"
        return ", ".join([what, *settings_in_words(self._chosen)])

    def check_examples(self, outlook: Outlook) -> tuple[str, ...]:
        """From here on a query has no more negatives than were scored."""
        outlook.negatives = min(outlook.negatives, self.candidates)
        return ()

    def run(self, context: "Context", name: str, folder: Path) -> Facts:
        """Let the teacher score positives and some mined negatives of each query.

        Consecutive queries are a block, whose scores are kept until all are there; each process takes every so many.
        What is scored is not scored again, by however many processes the stage goes on.
        """
        import numpy as np

        from harness.models.cross_encoder import teacher as cross_encoder
        from harness.models.training.tokens import Ragged
        from harness.training.context import token_pairs
        from harness.training.stage_outputs import read_block, read_negatives, write_scores
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
                new = folder / f".{path.name}"
                np.save(new, found.flat)
                new.replace(path)
        accelerator.wait_for_everyone()
        if context.main:
            scores = np.concatenate([np.load(path) for path in blocks])
            write_scores(folder, kept, Ragged(scores, rows.offsets))
            for path in blocks:
                path.unlink()
        return {"pairs": len(rows.flat)}


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
