"""Cross-encoders at work: the score of a query and a passage that are read together.

Two layouts:

ours
    `cross_encoder.json` beside a classifier with one output: what `harness train` leaves of its teacher. Pairs are put
    together as in its training (`harness.models.cross_encoder.teacher.Joiner`): the query is cut at half the length,
    the passage at what is left.
any other
    a `transformers` sequence classifier with one output, or two. Pairs are made by its own tokenizer, and too long ones
    lose tokens of the longer text first, as in sentence-transformers' `CrossEncoder`.

The score is the output itself, or of two outputs the last minus the first: the log-odds of the last class, whose
softmax is their sigmoid (the last class is "relevant" by convention: Nogueira and Cho 2019, arXiv:1901.04085). Sigmoid
and softmax, which sentence-transformers applies, keep the order but round large scores to ties at 1, so they are left
out.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.models.checkpoints.checkpoint import CROSS_ENCODER
from harness.models.checkpoints.modules_json import MODULES, module_folders
from harness.models.checkpoints.weights import positions, quiet
from harness.models.cross_encoder import teacher as cross_encoder
from harness.models.cross_encoder.teacher import CrossEncoder, Joiner, Pairs
from harness.models.errors import CheckpointError, first_line
from harness.models.training.batching import by_length, pad

_KIND = "ForSequenceClassification"
_TOKENS_AT_ONCE = 16_384  # padded
Pair = tuple[str, str]
_Encoded = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]  # token ids and types [L]


@dataclass(frozen=True)
class About:
    """What the small files of a folder say: `own` layout, number of `outputs`, tokens of a pair at most."""

    folder: Path
    own: bool
    outputs: int
    length: int


def read(folder: Path, length: int | None = None) -> About:
    """Look at a cross-encoder's folder without loading its weights; `length` is asked for instead of its own.

    Raises CheckpointError for a folder that holds no sequence classifier, one with more than two outputs, a chain of
    modules, a prompt, or a length beyond the model's positions.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever the libraries make of a malformed file
        raise CheckpointError(f"{folder} lacks a readable config.json ({first_line(error)}).") from error
    named = [str(name) for name in config.architectures or []]
    own = (folder / CROSS_ENCODER).is_file()
    if named and not any(name.endswith(_KIND) for name in named):
        raise CheckpointError(
            f"{folder} holds a {', '.join(named)}, which makes vectors or words and scores no pairs. Name a "
            f"cross-encoder: a checkpoint whose architecture is …{_KIND}, or what a `teacher` stage left."
        )
    outputs = int(config.num_labels)
    if outputs not in (1, 2):
        raise CheckpointError(
            f"{folder} has {outputs} outputs ({', '.join(map(str, config.id2label.values()))}); a re-ranker has 1, the "
            'relevance, or 2, of which the last is "relevant".'
        )
    chain = module_folders(folder)
    if chain:
        raise CheckpointError(
            f"{folder / MODULES} names more than one Transformer ({chain[0].name}); that is not known here."
        )
    settings = _settings(folder)
    if settings.get("default_prompt_name"):
        raise CheckpointError(f"{folder} puts a prompt before its pairs, which is not known here.")
    most = positions(config)
    usual = cross_encoder.trained_length(folder) if own else _usual(settings, most)
    if length is not None and length > most:
        raise CheckpointError(f"a length of {length} was asked for; {folder} has positions for {most} tokens at most.")
    return About(folder, own, outputs, length or usual)


def _settings(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("tokenizer_config.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        path = folder / name
        try:
            values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError as error:
            raise CheckpointError(f"{path} is not JSON ({error}).") from error
        found |= values if isinstance(values, dict) else {}
    return found


def _usual(settings: dict[str, Any], most: int) -> int:
    """The length that the folder names; libraries write 10^30 for "none"."""
    named = [settings.get("model_max_length"), settings.get("max_seq_length")]
    return min([most, *(int(value) for value in named if isinstance(value, int | float) and value > 0)])


class PairScorer:
    """A loaded cross-encoder. Raises CheckpointError for weights or a tokenizer that do not fit."""

    def __init__(self, about: About, device: torch.device) -> None:
        self.about, self.device = about, device
        self.tokenizer = _tokenizer(about)
        self.module = _load(about, self.tokenizer).eval().to(device)
        special = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id, self.tokenizer.pad_token_id
        self.joiner = Joiner(special, about.length) if about.own else None

    @torch.inference_mode()
    def score(
        self, pairs: Sequence[Pair], done: Callable[[int], None] = lambda _count: None
    ) -> npt.NDArray[np.float32]:
        """The score [n] of each (query, passage), batched by length; equal pairs in equal order give equal bits."""
        encoded = self._joined(pairs) if self.joiner else self._tokenized(pairs)
        found = np.empty(len(encoded), dtype=np.float32)
        for places in by_length([len(ids) for ids, _ in encoded], _TOKENS_AT_ONCE):
            batch = self._pad([encoded[place] for place in places])
            outputs = self.module(*(part.to(self.device) for part in batch))  # [b] or [b,2]
            scores = outputs if self.about.outputs == 1 else outputs[:, 1] - outputs[:, 0]
            found[places] = scores.cpu().numpy()
            done(len(places))
        return found

    def _joined(self, pairs: Sequence[Pair]) -> list[_Encoded]:
        length = self.about.length
        queries = self._pieces([query for query, _ in pairs], length // 2)
        passages = self._pieces([passage for _, passage in pairs], length)
        made = []
        for query, passage in zip(queries, passages, strict=True):
            ids, begins = self.joiner.pair(query, passage)  # type: ignore[union-attr]  # `score` asked
            made.append((ids, (np.arange(len(ids)) >= begins).astype(np.int64)))
        return made

    def _pieces(self, texts: Sequence[str], length: int) -> list[npt.NDArray[np.int64]]:
        found = self.tokenizer(
            list(texts), add_special_tokens=False, truncation=True, max_length=length, verbose=False
        )["input_ids"]
        return [np.array(ids, dtype=np.int64) for ids in found]

    def _tokenized(self, pairs: Sequence[Pair]) -> list[_Encoded]:
        if not pairs:
            return []
        queries, passages = zip(*pairs, strict=True)
        found = self.tokenizer(
            list(queries), list(passages), truncation=True, max_length=self.about.length, verbose=False
        )
        ids = [np.array(row, dtype=np.int64) for row in found["input_ids"]]
        types = found.get("token_type_ids") or [np.zeros(len(row)) for row in ids]
        return [(row, np.array(kinds, dtype=np.int64)) for row, kinds in zip(ids, types, strict=True)]

    def _pad(self, rows: Sequence[_Encoded]) -> Pairs:
        ids, mask = pad([text for text, _ in rows], int(self.tokenizer.pad_token_id))  # [B,L]
        return Pairs(ids, mask, pad([kinds for _, kinds in rows], 0)[0])


def _tokenizer(about: About) -> Any:
    from transformers import AutoTokenizer

    if about.own:
        return cross_encoder.tokenizer(about.folder)
    try:
        found = AutoTokenizer.from_pretrained(about.folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise CheckpointError(f"{about.folder} has no readable tokenizer ({first_line(error)}).") from error
    if found.pad_token_id is None:
        raise CheckpointError(f"{about.folder}: its tokenizer does not name its padding, which a batch of pairs needs.")
    if _settings(about.folder).get("do_lower_case") and found("A").input_ids != found("a").input_ids:
        raise CheckpointError(f"{about.folder} puts texts in lower case before its tokenizer, which is not done here.")
    special = found.num_special_tokens_to_add(pair=True)
    if about.length <= special + 1:
        raise CheckpointError(
            f"a length of {about.length} leaves no room for texts beside {special} special tokens of {about.folder}."
        )
    return found


def _load(about: About, tokenizer: Any) -> CrossEncoder:
    from transformers import AutoModelForSequenceClassification

    try:
        with quiet():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                about.folder,
                dtype=torch.float32,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # torch, safetensors and transformers each have their own ways to fail
        raise CheckpointError(f"{about.folder} cannot be loaded as a cross-encoder ({first_line(error)}).") from error
    missing = sorted(info["missing_keys"])
    if missing:
        head = not any(name.startswith(f"{model.base_model_prefix}.") for name in missing)
        raise CheckpointError(
            f"{about.folder} lacks {', '.join(missing[:3])}: "
            + ("an encoder without the layer that scores a pair. Name a cross-encoder." if head else "it is damaged.")
        )
    if len(tokenizer) > model.config.vocab_size:
        raise CheckpointError(
            f"{about.folder}: the tokenizer knows {len(tokenizer):,} tokens, the embedding table has "
            f"{model.config.vocab_size:,} rows. They do not belong together."
        )
    broken = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if broken:
        raise CheckpointError(f"{about.folder}: {', '.join(broken[:3])} holds values that are not finite.")
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return CrossEncoder(model)
