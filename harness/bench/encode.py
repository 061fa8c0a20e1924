"""Passages per second: against sentence-transformers, and with the lexical half against without it.

Both ways of a comparison have the same weights, texts, lengths, precision (fp32, on the CPU) and threads.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.bench import memory
from harness.bench.options import ROUNDS, BenchOptions
from harness.bench.peers import peer, there
from harness.bench.timing import Say, compare
from harness.datasets.loader import resolve
from harness.models import hybrid
from harness.models.checkpoints import checkpoint
from harness.models.hybrid import HybridSpec
from harness.retrievers.encoding.encode import TextEncoder
from harness.retrievers.errors import InputError
from harness.retrievers.types import Document

PASSAGES, LEXICAL = 256, 384
ALIKE = 1e-3  # 1 - cosine at most, between their vectors and ours, which are fp16
_PEER, _INSTALL = "sentence_transformers", "'dupmae-harness[bench]'"
_MIB = 2**20


def encode(options: BenchOptions, say: Say) -> dict[str, Any]:
    """Measure what the folder `model` allows: an entry for each peer; what it does not allow is said and left out.

    Raises InputError where nothing can be measured, CheckpointError for a folder that cannot be loaded.
    """
    if options.model is None or not options.model.is_dir():
        raise InputError(f"--model {str(options.model)!r} is not a folder. Name a checkpoint's folder.")
    why = {"sentence-transformers": _no_peer(options.model), "lexical": _no_lexical(options)}
    for name, reason in why.items():
        if reason:
            say(f"encode/{name}: skipped; {reason}")
    if all(why.values()):
        raise InputError(f"--model {options.model}: nothing to measure. {'; '.join(map(str, why.values()))}.")
    torch.set_num_threads(options.cores)
    docs = passages(options.dataset or "mini", options.passages or PASSAGES)
    found: dict[str, Any] = {}
    if not why["sentence-transformers"]:
        found["sentence-transformers"] = _against_peer(options, options.model, docs, say)
    if not why["lexical"]:
        found["lexical"] = _against_dense(options, options.model, docs, say)
    return found


def passages(dataset: str, count: int) -> list[Document]:
    """The first `count` passages of a collection, or all where it has fewer."""
    return list(itertools.islice(resolve(dataset)[0].source.documents(), count))


def _no_peer(model: Path) -> str | None:
    """Why there is no comparison with sentence-transformers; None where there is one."""
    if not (model / "modules.json").is_file():
        return f"{model} is no sentence-transformers folder (no modules.json)"
    if not there(_PEER):
        return f"its peer is not installed: `pip install {_INSTALL}`"
    try:
        peer_spec(model)
    except InputError as error:
        return str(error)
    return None


def peer_spec(model: Path) -> HybridSpec:
    """How a sentence-transformers folder makes a vector, in our words.

    Raises InputError for modules other than a transformer, CLS or mean pooling, and perhaps normalisation.
    """
    try:
        modules = json.loads((model / "modules.json").read_text())
        kinds = [module["type"].rpartition(".")[2] for module in modules]
        pooling = json.loads((model / modules[1]["path"] / "config.json").read_text()) if len(kinds) > 1 else {}
        settings = dict(pooling)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{model} has no readable modules.json and pooling configuration ({error!r})") from error
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise InputError(f"{model} is made of {', '.join(kinds)}; only Transformer, Pooling and Normalize are ours")
    # either one word, or in older folders a flag for each way
    flags = [name for name, on in settings.items() if name.startswith("pooling_mode_") and on is True]
    modes = [str(settings["pooling_mode"])] if "pooling_mode" in settings else flags
    words = {"cls": "cls", "pooling_mode_cls_token": "cls", "mean": "mean", "pooling_mode_mean_tokens": "mean"}
    if len(modes) != 1 or modes[0] not in words:
        raise InputError(f"{model} pools by {', '.join(modes) or 'nothing'}; ours are cls and mean")
    return HybridSpec(pooling=words[modes[0]], similarity="cosine" if kinds[2:] else "dot")


def _against_peer(options: BenchOptions, model: Path, docs: Sequence[Document], say: Say) -> dict[str, Any]:
    theirs = peer(_PEER, _INSTALL).SentenceTransformer(str(model), device="cpu")
    length = options.max_length or theirs.max_seq_length or HybridSpec().passage_length
    theirs.max_seq_length = length
    spec = peer_spec(model).replace(query_length=length, passage_length=length)
    ours = TextEncoder(checkpoint.load(model, spec), torch.device("cpu"))
    texts = [doc.joined for doc in docs]

    def one() -> Any:
        return ours.documents(docs, lambda _: None).dense

    def other() -> Any:
        return theirs.encode(texts, batch_size=32, convert_to_numpy=True)

    here, there_ = one().astype(np.float32), other()
    lengths = np.linalg.norm(here, axis=1) * np.linalg.norm(there_, axis=1)
    apart = float((1 - (here * there_).sum(1) / lengths).max())
    if not apart < ALIKE:
        raise InputError(
            f"{model}: our vectors and sentence-transformers' differ (1 - cosine up to {apart:.1e}), so their speeds "
            "cannot be compared. Does the folder put a prompt before its texts?"
        )
    say(f"encode/sentence-transformers: {len(docs)} passages, {length} tokens, threads {options.cores}")
    amounts = (len(docs), len(docs))
    found = compare(one, other, "sentence-transformers", amounts, "passages", options.rounds or ROUNDS, say)
    return found.entry(threads=options.cores, passages=len(docs), max_length=length, apart=apart)


def _no_lexical(options: BenchOptions) -> str | None:
    """Why there is no comparison of the two halves with the dense one; None where there is one."""
    model = options.model
    assert model is not None
    spec = hybrid.read(model)
    if spec is not None and spec.dense == 0:
        return f"{model} has no dense half to compare with"
    try:
        kinds = json.loads((model / "config.json").read_text()).get("architectures") or []
    except (OSError, ValueError, AttributeError):
        kinds = []
    if not any(str(kind).endswith("ForMaskedLM") for kind in kinds):
        reason = f"{model} has no masked-LM head"
        if options.lexical:
            raise InputError(f"--lexical {options.lexical}: {reason}. Leave the option out or name another --model.")
        return reason
    return None


def lexical_spec(model: Path, lexical: int | None, max_length: int | None) -> HybridSpec:
    """The checkpoint with its lexical half on: K as asked, else as its `hybrid.json` says, else 384."""
    spec = hybrid.read(model) or HybridSpec()
    return spec.replace(lexical=lexical or spec.lexical or LEXICAL, passage_length=max_length)


def _against_dense(options: BenchOptions, model: Path, docs: Sequence[Document], say: Say) -> dict[str, Any]:
    full = lexical_spec(model, options.lexical, options.max_length)
    ours, without = _call(model, full, docs), _call(model, full.replace(lexical=0), docs)
    for call in (ours, without):
        call()  # the first one of a process is slow
    loaded = checkpoint.load(model, full).spec
    say(
        f"encode/lexical: {len(docs)} passages, {full.passage_length} tokens, dense {loaded.dense}, lexical "
        f"{full.lexical}, threads {options.cores}"
    )
    amounts = (len(docs), len(docs))
    found = compare(ours, without, "lexical 0", amounts, "passages", options.rounds or ROUNDS, say)
    kwargs = {
        "model": str(model), "dataset": options.dataset or "mini", "count": len(docs),
        "max_length": options.max_length, "threads": options.cores,
    }  # fmt: skip
    peaks = {
        way: memory.apart(f"{__name__}:prepare", lexical=lexical, **kwargs).most
        for way, lexical in (("ours", full.lexical), ("theirs", 0))
    }
    say(
        f"peak memory of the process while it encodes: {peaks['ours'] / _MIB:,.0f} MiB, with lexical 0 "
        f"{peaks['theirs'] / _MIB:,.0f} MiB, ratio {peaks['ours'] / peaks['theirs']:.2f}"
    )
    return found.entry(
        threads=options.cores, passages=len(docs), max_length=full.passage_length, dense=loaded.dense,
        lexical=full.lexical, peak_bytes=peaks,
    )  # fmt: skip


def prepare(
    model: str, dataset: str, count: int, lexical: int, max_length: int | None, threads: int
) -> Callable[[], object]:
    """Load, and return the call whose memory is measured; `lexical` 0 for the dense half alone."""
    torch.set_num_threads(threads)
    spec = lexical_spec(Path(model), lexical or None, max_length)
    return _call(Path(model), spec if lexical else spec.replace(lexical=0), passages(dataset, count))


def _call(model: Path, spec: HybridSpec, docs: Sequence[Document]) -> Callable[[], object]:
    encoder = TextEncoder(checkpoint.load(model, spec), torch.device("cpu"))
    return lambda: encoder.documents(docs, lambda _: None)
