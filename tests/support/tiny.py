"""Small random checkpoints, with a real WordPiece tokenizer, in every layout."""

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from harness.models.checkpoints import checkpoint
from harness.models.hybrid import HybridSpec

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORDS = "red apples grow on trees green pears water runs to the sea what is a river bank money fish".split()
VOCABULARY = [*SPECIAL, *WORDS, *LETTERS, *(f"##{c}" for c in LETTERS)]


def tokenizer(*more: str) -> PreTrainedTokenizerFast:
    """`more` words come behind the vocabulary."""
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*VOCABULARY, *more]))}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


def config(hidden: int = 32, **changes) -> BertConfig:
    size = len(dict.fromkeys(VOCABULARY))
    settings = {
        "vocab_size": size,
        "hidden_size": hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 160,
        "initializer_range": 0.3,  # large, so that random weights tell texts apart
    }
    return BertConfig(**(settings | changes))


def masked_lm(seed: int = 0, **changes) -> BertForMaskedLM:
    torch.manual_seed(seed)
    return BertForMaskedLM(config(**changes)).eval()


def save_hybrid(folder, dense: int = 16, lexical: int = 12, seed: int = 0, **spec):
    """A checkpoint in our layout; D = 16 of H = 32 needs the projection."""
    model = masked_lm(seed)
    layer = nn.Linear(32, dense, bias=False) if dense not in (0, 32) else None
    checkpoint.save(folder, model, tokenizer(), HybridSpec(dense=dense, lexical=lexical, **spec), layer)
    return folder
