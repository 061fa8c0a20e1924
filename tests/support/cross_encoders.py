"""Small random cross-encoders in our layout."""

import torch
from transformers import (
    BertForSequenceClassification,
    BertTokenizerFast,
)

from harness.models.cross_encoder import teacher as cross_encoder
from tests.support import tiny


def tokenizer():
    return BertTokenizerFast(vocab={token: n for n, token in enumerate(dict.fromkeys(tiny.VOCABULARY))})


def own(folder, length=24, seed=0):
    torch.manual_seed(seed)
    module = cross_encoder.CrossEncoder(BertForSequenceClassification(tiny.config(num_labels=1)).eval())
    cross_encoder.save(folder, module, tokenizer(), length)
    return folder
