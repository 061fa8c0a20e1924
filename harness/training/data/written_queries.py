"""Queries that a language model writes for texts, as doc2query and GPL do (Nogueira et al. 2019; Wang et al. 2022).

A sequence-to-sequence model, such as doc2query's T5, is given the text itself; a causal one a prompt that holds the
text, and its first line is the query. Both sample from the ten likeliest tokens, as docTTTTTquery did. What is written
is kept block by block, so that a stopped command goes on; a block depends on the texts, the settings and the seed alone
(and on the machine, in a model's last bits).
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.models.checkpoints import hub
from harness.models.errors import CheckpointError, first_line
from harness.reports.files import write_whole
from harness.retrievers import devices
from harness.retrievers.types import Document, Job
from harness.runtime.hashing import digest
from harness.training.recipe_data import Writer

FOLDER = "written-queries"
_AT_ONCE = 16  # texts of a block
_LIKELIEST = 10
_LOCAL: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
_LONGEST = 384  # tokens of a text that the model sees
_PROMPT = "Text: {text}\n\nA short search query that this text answers:"


class QueryWriter:
    """A model of `transformers` that writes queries, on a GPU where there is one. Raises CheckpointError as `check`.

    On a GPU it computes in the precision of its weights, on a CPU in float32.
    """

    def __init__(self, writer: Writer) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

        from harness.models.checkpoints.weights import quiet

        folder, self.encodes = check(writer)
        self.writer, self.device = writer, devices.chosen("auto", "--device")
        dtype: Any = torch.float32 if self.device.type == "cpu" else "auto"
        auto: Any = AutoModelForSeq2SeqLM if self.encodes else AutoModelForCausalLM
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, **_LOCAL)
            with quiet():
                self.model: Any = auto.from_pretrained(folder, **_LOCAL, dtype=dtype).to(self.device).eval()
        except Exception as error:  # each library has its own ways to fail
            raise CheckpointError(f"the query generator {folder} cannot be loaded ({first_line(error)}).") from error
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if self.tokenizer.pad_token_id is None:
            raise CheckpointError(f"the tokenizer of {folder} has neither a padding token nor an end token.")

    def write(self, texts: Sequence[str], seed: int) -> list[list[str]]:
        """`writer.each` queries of each text; empty ones and repetitions are left out.

        Raises CheckpointError where the model fails: its weights or its tokenizer do not do for generation.
        """
        try:
            return self._write(texts, seed)
        except (RuntimeError, ValueError, IndexError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"the query generator {self.writer.model} failed while writing ({first_line(error)}). Do its tokenizer "
                "and its weights belong together? Name another model."
            ) from error

    def _write(self, texts: Sequence[str], seed: int) -> list[list[str]]:
        import torch

        tokenizer, writer = self.tokenizer, self.writer
        tokenizer.padding_side = "right" if self.encodes else "left"
        asked = [self._asked(text) for text in texts]
        batch = tokenizer(asked, padding=True, truncation=self.encodes, max_length=_LONGEST if self.encodes else None,
                          return_tensors="pt", return_token_type_ids=False).to(self.device)  # fmt: skip
        drawn = [self.device] if self.device.type == "cuda" else []  # whose random numbers training goes on with
        with torch.random.fork_rng(devices=drawn), torch.inference_mode():
            torch.manual_seed(seed)
            found = self.model.generate(
                **batch, do_sample=True, top_k=_LIKELIEST, max_new_tokens=writer.tokens,
                num_return_sequences=writer.each, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        if not self.encodes:
            found = found[:, batch["input_ids"].shape[1] :]
        lines = [_first_line(answer) for answer in tokenizer.batch_decode(found, skip_special_tokens=True)]
        groups = [lines[start : start + writer.each] for start in range(0, len(lines), writer.each)]
        return [list(dict.fromkeys(line for line in group if line)) for group in groups]

    def _asked(self, text: str) -> str:
        """What the model is given: the text, cut, in the prompt where there is one."""
        prompt = self.writer.prompt or ("{text}" if self.encodes else _PROMPT)
        positions = int(getattr(self.model.config, "max_position_embeddings", 0) or _LONGEST * 2)
        around = len(self.tokenizer(prompt.replace("{text}", ""))["input_ids"])
        longest = max(1, min(_LONGEST, positions - self.writer.tokens - around))
        ids = self.tokenizer(text, truncation=True, max_length=longest, add_special_tokens=False)["input_ids"]
        cut = self.tokenizer.decode(ids, skip_special_tokens=True) if len(ids) == longest else text
        return prompt.replace("{text}", cut)


def check(writer: Writer) -> tuple[Path, bool]:
    """Where the model is, and whether it has an encoder; no weight is read.

    Raises CheckpointError for a checkpoint that is not there, or whose configuration names no model that writes text.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    folder = hub.locate(writer.model)
    try:
        config = AutoConfig.from_pretrained(folder, **_LOCAL)
    except Exception as error:
        raise CheckpointError(f"the query generator {folder} cannot be loaded ({first_line(error)}).") from error
    encodes = bool(config.is_encoder_decoder)
    able: Any = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES if encodes else MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if able.get(config.model_type) not in (config.architectures or []):
        kinds = ", ".join(config.architectures or []) or "no architecture named"
        raise CheckpointError(
            f"the query generator {folder} is a {config.model_type!r} model ({kinds}), which writes no text. Name a "
            "sequence-to-sequence model such as doc2query's T5, or a causal one."
        )
    return folder, encodes


def _first_line(answer: str) -> str:
    lines = [line.strip().strip('"') for line in answer.splitlines() if line.strip()]
    return " ".join(lines[0].split()) if lines else ""


def queries(writer: Writer, documents: Sequence[Document], seed: int, job: Job) -> Iterator[list[str]]:
    """The queries of each document, in order; those that are in the cache are not written again.

    Raises CheckpointError as `QueryWriter`.
    """
    if not documents:
        return
    texts = [document.joined for document in documents]
    made = digest([writer.model_dump(mode="json"), hub.content_hash(hub.locate(writer.model)), seed])
    model: QueryWriter | None = None
    with job.phase("write queries", len(texts), "texts") as meter:
        for start in range(0, len(texts), _AT_ONCE):
            block = texts[start : start + _AT_ONCE]
            path = job.cache / FOLDER / made / f"{digest(block)}.json"
            found = _read(path, len(block))
            if found is None:
                model = model or QueryWriter(writer)
                found = model.write(block, int(digest([seed, block])[:12], 16))
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, json.dumps({"queries": found, "sha256": digest(found)}))
            yield from found
            meter.advance(len(block))


def _read(path: Path, texts: int) -> list[list[str]] | None:
    """A block that is whole, or None: it is then written again."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        found: list[list[str]] = kept["queries"]
        whole = kept["sha256"] == digest(found) and len(found) == texts
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if whole else None
