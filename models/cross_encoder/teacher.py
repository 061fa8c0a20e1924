"""The teacher of stage 3: a cross-encoder that reads query and passage together (paper, section 3.2, step 3)."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.checkpoints.checkpoint import CROSS_ENCODER
from harness.models.checkpoints.weights import quiet
from harness.models.errors import CheckpointError, first_line
from harness.models.finetuning.examples import Examples, FinetuneConfig, check
from harness.models.training.batching import by_length, pad
from harness.models.training.gather import exchanging_once
from harness.models.training.tokens import Ragged, Tokens, chosen

_TOKENS_AT_ONCE = 16_384  # padded, when scoring


class CrossEncoder(nn.Module):
    """A `transformers` sequence classifier with one output: a relevance score for each pair."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier = classifier
        types = int(getattr(classifier.config, "type_vocab_size", 0) or 0)
        self.with_types = types > 1

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_types: Tensor) -> Tensor:
        """Scores [B] of pairs [B,L], in float32."""
        extra = {"token_type_ids": token_types} if self.with_types else {}
        found: Tensor = self.classifier(input_ids=input_ids, attention_mask=attention_mask, **extra).logits
        return found.squeeze(-1).float()


def load(folder: Path, seed: int = 0) -> CrossEncoder:
    """A classifier on the weights in `folder`; an output layer that is not there is drawn with `seed`.

    Raises CheckpointError for a folder that holds no encoder, or whose encoder lacks weights.
    """
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    try:
        with quiet():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder,
                num_labels=1,
                dtype=torch.float32,  # whatever it was saved in: half-precision weights would be trained as such
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # torch, safetensors and transformers each have their own ways to fail
        raise CheckpointError(f"{folder} cannot be loaded as a cross-encoder ({first_line(error)}).") from error
    own = f"{model.base_model_prefix}."
    lost = sorted(
        name for name in info["missing_keys"] if name.startswith(own) and not name.startswith(f"{own}pooler.")
    )
    if lost:
        raise CheckpointError(
            f"{folder} lacks weights of its encoder: {', '.join(lost[:5])}. It is damaged or foreign."
        )
    return CrossEncoder(model)


def tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`. Raises CheckpointError where there is none that separates two texts."""
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise CheckpointError(f"{folder} has no readable tokenizer ({first_line(error)}).") from error
    if None in (found.cls_token_id, found.sep_token_id, found.pad_token_id):
        raise CheckpointError(f"{folder}: its tokenizer does not name CLS, SEP and padding, which pairs are made with.")
    return found


def save(folder: Path, module: CrossEncoder, tokenizer: Any, length: int) -> None:
    """Write the classifier, its tokenizer, and the length that it was trained at."""
    with quiet():
        module.classifier.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / CROSS_ENCODER).write_text(json.dumps({"length": length}) + "\n")


def trained_length(folder: Path) -> int:
    """The length that `save` wrote."""
    return int(json.loads((folder / CROSS_ENCODER).read_text())["length"])


class Pairs(NamedTuple):
    """Padded pairs: [CLS] query [SEP] passage [SEP]."""

    input_ids: Tensor  # [n,L]
    attention_mask: Tensor  # [n,L]
    token_types: Tensor  # [n,L] 1 in the passage


@dataclass(frozen=True)
class Joiner:
    """Puts query and passage together, at most `length` tokens; the passage is cut, the query is not.

    `special` are the ids of CLS, SEP and padding. Raises ValueError where a query alone fills the length.
    """

    special: tuple[int, int, int]
    length: int

    def pair(self, query: npt.NDArray[Any], passage: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], int]:
        """Token ids of one pair, and where the passage begins."""
        cls, sep, _ = self.special
        room = self.length - 3 - len(query)
        if room < 1:
            raise ValueError(f"a query of {len(query)} tokens leaves no room for a passage in {self.length}")
        parts = ([cls], query, [sep], passage[:room], [sep])
        return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts]), len(query) + 2

    def pad(self, pairs: list[tuple[npt.NDArray[np.int64], int]]) -> Pairs:
        """A batch of pairs."""
        ids, mask = pad([text for text, _ in pairs], self.special[2])  # [B,L]
        begins = torch.tensor([passage for _, passage in pairs]).unsqueeze(1)  # [B,1]
        return Pairs(ids, mask, mask * (torch.arange(ids.shape[1]) >= begins))


class CrossTask:
    """Learns to put the positive before the mined negatives: cross-entropy over {d⁺, D⁻} of each query.

    A global batch of `config.queries` queries a step, `chunk` of them at once. Raises ValueError as `FinetuneTask`, and
    where no negatives are asked for.
    """

    def __init__(
        self,
        module: CrossEncoder,
        examples: Examples,
        config: FinetuneConfig,
        joiner: Joiner,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        if config.queries % (config.chunk * processes):
            raise ValueError(
                f"a batch of {config.queries} queries is no multiple of {config.chunk} at once on {processes} processes"
            )
        check(examples, config)
        if not config.negatives:
            raise ValueError("a cross-encoder learns to tell a positive from negatives, and none were asked for")
        self.module, self.examples, self.config, self.joiner = module, examples, config, joiner
        self.rank, self.processes = rank, processes

    def prepare(self, step: int) -> list[tuple[Pairs, list[int]]]:
        """This process's chunks of the step: each query's positive and its negatives, one after another."""
        config, examples = self.config, self.examples
        numbers = chosen(config.seed, step, config.queries, len(examples.queries))
        share = config.queries // self.processes
        found = []
        for start in range(self.rank * share, (self.rank + 1) * share, config.chunk):
            part = [int(number) for number in numbers[start : start + config.chunk]]
            pairs = [
                self.joiner.pair(examples.queries[number], examples.passages[int(row)])
                for number in part
                for row in examples.pick(config, step, number).rows
            ]
            found.append((self.joiner.pad(pairs), part))
        return found

    def backward(
        self, model: Any, batch: list[tuple[Pairs, list[int]]], accelerator: Any
    ) -> tuple[dict[str, Tensor], int]:
        """Mean loss over this process's queries."""
        total, count = torch.zeros((), device=accelerator.device), 0
        for piece, _ in exchanging_once(batch, model, accelerator):
            pairs = Pairs(*(part.to(accelerator.device) for part in piece))
            scores = model(*pairs).view(-1, 1 + self.config.negatives)  # [q,1+n]
            target = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
            loss = functional.cross_entropy(scores, target) / len(batch)
            accelerator.backward(loss)
            total = total + loss.detach()
            count += int(piece.attention_mask.sum())
        return {"loss": total}, count

    def name(self, batch: list[tuple[Pairs, list[int]]]) -> str:
        """The queries' numbers."""
        return f"training queries {', '.join(str(number) for _, part in batch for number in part[:4])}"

    def extra(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def restore(self, extra: Mapping[str, float]) -> None:
        """Nothing."""

    def validate(self, accelerator: Any) -> dict[str, float]:  # noqa: ARG002
        """Nothing."""
        return {}


@torch.inference_mode()
def score(
    module: CrossEncoder,
    queries: Tokens,
    passages: Tokens,
    rows: Ragged,
    joiner: Joiner,
    device: torch.device,
    done: Callable[[int], None] = lambda _count: None,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Ragged:
    """The teacher's score of each query with each of its passages `rows`, in their order; batched by length.

    `autocast` chooses the precision of the products; scores are float32.
    """
    module.eval().to(device)
    owners = np.repeat(np.arange(len(queries)), rows.lengths)
    lengths = queries.lengths[owners] + np.asarray(passages.lengths)[rows.flat]
    found = np.empty(len(owners), dtype=np.float32)
    for places in by_length(lengths + 3, _TOKENS_AT_ONCE, longest=joiner.length):
        pairs = [joiner.pair(queries[int(owners[p])], passages[int(rows.flat[p])]) for p in places]
        with autocast():
            scores = module(*(part.to(device) for part in joiner.pad(pairs)))
        found[places] = scores.float().cpu().numpy()
        if done is not None:
            done(len(places))
    return Ragged(found, rows.offsets)
