"""A real tokenizer of each kind, trained on the embedded collection: WordPiece, byte-level BPE, Unigram."""

import json
from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from harness.datasets.loader import MINI
from tests.support import tiny

_BERT = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}
_ROBERTA = {"cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
_SIZE = 600


@cache
def _texts():
    lines = (MINI / "corpus.jsonl").read_text(encoding="utf-8").splitlines()[:200]
    return [json.loads(line)["text"] for line in lines]


def _wrapped(core, names):
    ids = [(names[name], core.token_to_id(names[name])) for name in ("cls", "sep")]
    core.post_processor = processors.TemplateProcessing(
        single=f"{names['cls']} $A {names['sep']}",
        pair=f"{names['cls']} $A {names['sep']} $B {names['sep']}",
        special_tokens=ids,
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, **{f"{name}_token": token for name, token in names.items()})


def byte_level(names=None):
    """As RoBERTa's and ModernBERT's."""
    names = names or _ROBERTA
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE,
        special_tokens=[names[name] for name in ("pad", "unk", "cls", "sep", "mask")],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_texts(), trainer)
    return _wrapped(core, names)


def unigram(names=None):
    """As XLM-RoBERTa's, CamemBERT's and DeBERTa-v3's."""
    names = names or _ROBERTA
    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=_SIZE,
        special_tokens=[names[name] for name in ("pad", "unk", "cls", "sep", "mask")],
        unk_token=names["unk"],
        show_progress=False,
    )
    core.train_from_iterator(_texts(), trainer)
    return _wrapped(core, names)


@cache
def of_family(kind):
    """The kind of tokenizer that a family's checkpoints have."""
    if kind in ("roberta", "deberta"):
        return byte_level()
    if kind == "modernbert":
        return byte_level(_BERT)
    if kind in ("xlm-roberta", "camembert"):
        return unigram()
    if kind == "deberta-v2":
        return unigram(_BERT)
    return tiny.tokenizer()
