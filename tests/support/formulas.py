"""The two halves of a text, written out."""

import torch

from tests.support import tiny


def naive(model, text, k, pooling="cls", length=144):
    """The two halves of one text, without padding, chunks or batches: float64 from float32 hidden states."""
    ids = tiny.tokenizer()(text, truncation=True, max_length=length, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        hidden = model.bert(ids).last_hidden_state[0]
        logits = model.cls(hidden)
    ordinary = [n for n, token in enumerate(ids[0].tolist()) if token not in (0, 2, 3)]  # PAD, CLS, SEP
    pooled = logits[ordinary].max(0).values if ordinary else torch.zeros(logits.shape[1])
    cls = hidden[0] if pooling == "cls" else hidden.mean(0)
    best = sorted(range(len(pooled)), key=lambda i: -pooled[i])[:k]
    return cls.double().numpy(), pooled.double().numpy(), {i: float(pooled[i]) for i in best if pooled[i] != 0}
