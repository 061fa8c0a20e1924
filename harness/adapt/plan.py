"""How many steps fit into the time: from steps that are measured on this machine, with this base and these texts."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from harness.adapt.wish import BATCH, CHANGE, QUERIES, K, Steps, Wish
from harness.retrievers import devices
from harness.retrievers.errors import InputError
from harness.training.data import corpora
from harness.training.recipe_data import CorpusPart

_LONGEST = 128  # tokens of a passage in training
_LEAST_TEXTS = 64  # fewer make no batch of pairs
# Shares of the time of the stages that train; what is left is for mining, scoring, weighing and the measure at the end.
# Where the base has a head already, pre-training takes its share as well.
_SHARES = {"warm": 0.3, "pretrain": 0.15, "tune": 0.25}
_LEAST_STEPS = 20  # of a stage that is worth doing
_MOST_EPOCHS = 10  # over the texts, however much time there is


@dataclass(frozen=True)
class Measured:
    """What a step takes on this machine, in seconds, and how many texts there are."""

    seconds: dict[str, float]
    texts: int
    length: int  # of passages in training, in tokens
    search_length: int  # and in search, as the base has it
    terms: int = K  # kept of a passage
    precision: str = "auto"


def texts_of(wish: Wish) -> Iterator[str]:
    """All texts. Raises InputError for a corpus that is not there or malformed."""
    for name in wish.corpora:
        yield from corpora.texts(CorpusPart(name=name), name)


def count(wish: Wish) -> int:
    """How many texts there are. Raises InputError for too few."""
    found = sum(1 for text in texts_of(wish) if text.strip())
    if found < _LEAST_TEXTS:
        raise InputError(
            f"{', '.join(wish.corpora)}: {found:,} texts. Adapting makes pairs of them and needs {_LEAST_TEXTS} at "
            "least; better some thousands."
        )
    return found


def measure(wish: Wish, source: Path, spec: Any, head: bool, say: Callable[[str], object]) -> Measured:
    """Take two steps of each kind on the first texts, and forget what they learned.

    Raises CheckpointError for a base that cannot be trained, InputError for too few texts.
    """
    import torch

    from harness.models.checkpoints import new_head
    from harness.models.finetuning.biencoder import BiEncoder
    from harness.models.hybrid import HybridSpec
    from harness.models.layers.encoder import Encoder
    from harness.models.layers.families import mlm_head
    from harness.models.pretraining.config import PretrainConfig
    from harness.models.pretraining.mae import DupMAE, PretrainBatch
    from harness.models.pretraining.masking import Collator, Vocabulary
    from harness.models.pretraining.new_head import NewHead
    from harness.models.training.precision import fastest
    from harness.models.training.tokens import begins
    from harness.training.base_model import load_masked_lm

    texts = count(wish)
    say(f"measuring what a step takes on the first of {texts:,} texts")
    device = devices.chosen("auto", "--device")
    length = min(spec.passage_length, _LONGEST)
    model, tokenizer = load_masked_lm(source) if head else new_head.with_new_head(source, tied=False)
    config = PretrainConfig.paper("DupMAE", **CHANGE)
    vocabulary = Vocabulary.of(tokenizer)
    some = list(islice((text for text in texts_of(wish) if text.strip()), BATCH))
    answer = tokenizer(some, add_special_tokens=False, truncation=True, max_length=length - 2)
    starts = None if vocabulary.continues is not None else [begins(answer.word_ids(n)) for n in range(len(some))]
    rows = [row or [tokenizer.unk_token_id] for row in answer["input_ids"]]
    batch = PretrainBatch(*(part.to(device) for part in Collator(vocabulary, config, length)(rows, 0, starts)))
    kind = fastest(device.type)
    terms = min(K, vocabulary.size)

    def second(loss: Callable[[], Any]) -> float:
        """Seconds of a step; the first of two warms up."""
        for _ in range(2):
            began = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=kind == "bf16"):
                found = loss()
            found.backward()
            model.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
        return time.perf_counter() - began

    seconds = {}
    if not head:
        warm = NewHead(model).to(device).train()
        seconds["warm"] = second(lambda: warm(batch).total)
        model.requires_grad_(True)
    decoding = DupMAE(model, config).to(device).train()
    seconds["pretrain"] = second(lambda: decoding(batch).total)
    hybrid = BiEncoder(Encoder(model.base_model, mlm_head(model), None, HybridSpec(lexical=terms), ()))

    def encoded() -> Any:
        dense, _, weights = hybrid(batch.decoder_input_ids, batch.attention_mask, False)
        return dense.sum() + weights.sum()

    seconds["tune"] = second(encoded) * 4 * QUERIES / len(rows)
    return Measured(seconds, texts, length, spec.passage_length, terms, kind)


def steps(wish: Wish, measured: Measured) -> Steps:
    """As many as fit into the shares of the time, and no more than ten epochs of the texts."""
    found = {}
    for name, share in _SHARES.items():
        if name not in measured.seconds:
            found[name] = 0
            continue
        fit = int(share * 60 * wish.minutes / measured.seconds[name])
        found[name] = min(fit, max(_LEAST_STEPS, _MOST_EPOCHS * measured.texts // BATCH))
    if not wish.pretrain or found["pretrain"] < _LEAST_STEPS:
        found["pretrain"] = 0
    for name in ("warm", "tune"):
        if name in measured.seconds and found[name] < _LEAST_STEPS:
            needed = measured.seconds[name] * _LEAST_STEPS / _SHARES[name] / 60
            raise InputError(
                f"--minutes {wish.minutes:g} is too little: {_LEAST_STEPS} steps of the stage {name} alone take "
                f"{measured.seconds[name] * _LEAST_STEPS / 60:.1f}. Give {needed:.0f} at least, or a smaller base."
            )
    return Steps(found["warm"], found["pretrain"], found["tune"])
