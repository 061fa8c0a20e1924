"""Tiny random models that write text."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from tests.support import families, tiny

SIZE = families.SIZE


def t5(folder):
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=SIZE, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=3,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def gpt2(folder, **changes):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=SIZE, n_embd=16, n_layer=1, n_head=2, bos_token_id=2, eos_token_id=3, **changes)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder
