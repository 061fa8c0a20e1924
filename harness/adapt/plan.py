"""How many steps fit into the time: from steps that are measured on this machine, with this base and these texts."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from harness.adapt.wish import BATCH, QUERIES, K, Steps, Wish, tunes
from harness.models.errors import CheckpointError
from harness.retrievers import devices
from harness.retrievers.errors import InputError
from harness.training.data import corpora
from harness.training.data.pseudo_queries import LEAST_WORDS
from harness.training.recipe_data import CorpusPart

_LONGEST = 128  # tokens of a passage in training
_LEAST_TEXTS = 64  # fewer make no batch of pairs
# Shares of the time of the stages that train; what is left is for mining, scoring, weighing and the measure at the end.
# Where the base has a head already, pre-training takes its share as well.
_SHARES = {"warm": 0.3, "pretrain": 0.15, "tune": 0.2, "write": 0.15}
_LEAST_STEPS = 20  # of a stage that is worth doing
# Pre-training moves the whole encoder; fewer steps than these, or than `_MOST_EPOCHS`, move it and teach it little.
_LEAST_PRETRAINING = 1_000
_MOST_EPOCHS = 10  # over the texts, however much time there is


@dataclass(frozen=True)
class Measured:
    """What a step takes on this machine, in seconds, and how many texts there are."""

    seconds: dict[str, float]
    texts: int
    length: int  # of passages in training, in tokens
    searched: tuple[int, int]  # of queries and passages in search, as the base has them
    terms: int = K  # kept of a passage
    precision: str = "auto"


def texts_of(wish: Wish) -> Iterator[str]:
    """All texts. Raises InputError for a corpus that is not there or malformed."""
    for name in wish.corpora:
        yield from corpora.texts(CorpusPart(name=name), name)


def count(wish: Wish) -> int:
    """How many texts there are. Raises InputError for too few that pairs can be made of."""
    lengths = [len(text.split()) for text in texts_of(wish)]
    able = sum(length >= LEAST_WORDS for length in lengths)
    if able < _LEAST_TEXTS:
        raise InputError(
            f"{', '.join(wish.corpora)}: {able:,} texts of {LEAST_WORDS} words or more, {len(lengths):,} in all. "
            f"Adapting makes pairs of them and needs {_LEAST_TEXTS} at least; better some thousands."
        )
    return sum(length > 0 for length in lengths)


def measure(wish: Wish, source: Path, spec: Any, head: bool, say: Callable[[str], object]) -> Measured:
    """Take two steps of each kind on the first texts, which teach the model nothing.

    Raises CheckpointError for a base that cannot be trained, such as one whose tokenizer has no mask token, InputError
    for too few texts.
    """
    import torch

    from harness.models.checkpoints import new_head
    from harness.models.finetuning.biencoder import BiEncoder
    from harness.models.hybrid import HybridSpec
    from harness.models.layers.encoder import Encoder
    from harness.models.layers.families import mlm_head
    from harness.models.pretraining.config import PretrainConfig
    from harness.models.pretraining.mae import DupMAE, PretrainBatch
    from harness.models.pretraining.masking import Collator
    from harness.models.pretraining.new_head import NewHead
    from harness.models.training.precision import fastest
    from harness.training.base_model import load_masked_lm

    texts = count(wish)
    say(f"measuring what a step takes on the first of {texts:,} texts")
    device = devices.chosen("auto", "--device")
    length = min(spec.passage_length, _LONGEST)
    model, tokenizer = load_masked_lm(source) if head else new_head.with_new_head(source, tied=False)
    config = PretrainConfig.paper("DupMAE")
    vocabulary = _vocabulary(tokenizer, source)
    some = list(islice((text for text in texts_of(wish) if text.strip()), BATCH))
    collator = Collator(vocabulary, config, length)
    rows = _rows(tokenizer, some, length, vocabulary.continues is None)
    batch = PretrainBatch(*(part.to(device) for part in collator(*rows)))
    kind = fastest(device.type)
    terms = min(K, int(model.config.vocab_size))

    def second(loss: Callable[[], Any]) -> float:
        return _second(loss, model, device, kind == "bf16")

    seconds = {}
    if not head:
        warm = NewHead(model).to(device).train()
        seconds["warm"] = second(lambda: warm(batch).total)
        model.requires_grad_(True)
    decoding = DupMAE(model, config).to(device).train()
    seconds["pretrain"] = second(lambda: decoding(batch).total)
    frozen = not pretraining(wish, seconds["pretrain"], texts)
    encoder = Encoder(model.base_model, mlm_head(model), None, HybridSpec(lexical=terms), ())
    hybrid = BiEncoder(encoder, frozen=frozen).train()

    three = torch.arange(3 * QUERIES) % len(some)  # each query with a positive and two negatives

    def encoded() -> Any:
        ids, mask = batch.decoder_input_ids, batch.attention_mask
        found = [hybrid(ids[three], mask[three], False), hybrid(ids[:QUERIES, :32], mask[:QUERIES, :32], True)]
        return sum(dense.sum() + weights.sum() for dense, _, weights in found)

    if tunes(wish, not frozen):
        seconds["tune"] = second(encoded)
    if wish.query_generator:
        seconds["write"] = _writing(wish.query_generator, some)
    return Measured(seconds, texts, length, (spec.query_length, spec.passage_length), terms, kind)


def _second(loss: Callable[[], Any], model: Any, device: Any, bf16: bool) -> float:
    """Seconds of a step; the first of two warms up. AdamW at a rate of 0 leaves the weights as they are."""
    import torch

    optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.0)
    began = 0.0
    for _ in range(2):
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            found = loss()
        found.backward()
        optimiser.step()
        optimiser.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - began


def _vocabulary(tokenizer: Any, source: Path) -> Any:
    """What masking has to know of a tokenizer. Raises CheckpointError for one that lacks a token that it needs."""
    from harness.models.pretraining.masking import Vocabulary
    from harness.training.student import special_ids

    special_ids(tokenizer, source)
    try:
        return Vocabulary.of(tokenizer)
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}. Name another --base.") from error


def _rows(tokenizer: Any, texts: list[str], length: int, words: bool) -> tuple[Any, int, Any]:
    """What the collator takes: token ids, a step, and word starts where the vocabulary does not tell them (`words`)."""
    from harness.models.training.tokens import begins

    answer = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=length - 2)
    starts = [begins(answer.word_ids(number)) for number in range(len(texts))] if words else None
    return [row or [tokenizer.unk_token_id] for row in answer["input_ids"]], 0, starts


def _writing(model: str, texts: list[str]) -> float:
    """Seconds of a text for which a language model writes a query."""
    from harness.training.data.written_queries import QueryWriter
    from harness.training.recipe_data import Writer

    writer = QueryWriter(Writer(model=model))
    began = time.perf_counter()
    writer.write(texts, 0)
    return (time.perf_counter() - began) / len(texts)


def steps(wish: Wish, measured: Measured) -> Steps:
    """As many as fit into the shares of the time, and no more than ten epochs of the texts.

    Raises InputError where the time does not do for a stage that cannot be left out.
    """
    seconds, texts = measured.seconds, measured.texts
    most = _most(texts)
    pretrain = min(most, pretraining(wish, seconds["pretrain"], texts))
    shares = dict(_SHARES)
    if not tunes(wish, bool(pretrain)):
        shares["warm"] += shares.pop("tune")
    fit = {name: int(share * 60 * wish.minutes / seconds[name]) for name, share in shares.items() if name in seconds}
    found = {name: min(fit.get(name, 0), most) for name in ("warm", "tune")}
    for name in ("warm", "tune"):
        if name in fit and found[name] < _LEAST_STEPS:
            needed = seconds[name] * _LEAST_STEPS / shares[name] / 60
            raise InputError(
                f"--minutes {wish.minutes:g} is too little: {shares[name]:.0%} of it are for the stage {name}, whose "
                f"least, {_LEAST_STEPS} steps, takes {seconds[name] * _LEAST_STEPS / 60:.2g} minutes. Give "
                f"{math.ceil(needed)} at least, or name a smaller base."
            )
    return Steps(found["warm"], pretrain, found["tune"], min(texts, fit.get("write", 0)))


def pretraining(wish: Wish, second: float, texts: int) -> int:
    """The steps of pre-training for which there is time, at so many seconds each; 0 where too few to be of use."""
    fit = int(_SHARES["pretrain"] * 60 * wish.minutes / second)
    return fit if wish.pretrain and fit >= min(_LEAST_PRETRAINING, _most(texts)) else 0


def _most(texts: int) -> int:
    """Steps, whatever the time."""
    return max(_LEAST_STEPS, _MOST_EPOCHS * texts // BATCH)
