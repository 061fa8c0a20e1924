"""Small random checkpoints in other libraries' layouts."""

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import nn
from transformers import (
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
)

from harness.models.checkpoints.weights import quiet
from tests.support import tiny

SIZE = len(dict.fromkeys(tiny.VOCABULARY))
_SMALL = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "initializer_range": 0.3}
BACKBONES = {
    "bert": lambda: tiny.masked_lm(max_position_embeddings=514).bert,
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(vocab_size=SIZE, dim=32, n_layers=2, n_heads=4, hidden_dim=64, initializer_range=0.3)
    ),
    "roberta": lambda: RobertaModel(
        RobertaConfig(vocab_size=SIZE, hidden_size=32, max_position_embeddings=514, pad_token_id=0, **_SMALL)
    ),
    "t5": lambda: T5EncoderModel(
        T5Config(vocab_size=SIZE, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, initializer_factor=2.0)
    ),
}


def backbone(folder, kind="bert"):
    torch.manual_seed(3)
    model = BACKBONES[kind]().eval()
    with quiet():
        model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return model


def saved(folder, *modules, kind="bert", **settings):
    """A folder as sentence-transformers writes it, and that library's own model."""
    backbone(folder / "base", kind)
    with quiet():
        body = Transformer(str(folder / "base"), max_seq_length=12)
    torch.manual_seed(4)
    model = SentenceTransformer(modules=[body, *(make() for make in modules)], device="cpu", **settings).eval()
    with quiet():
        model.save(str(folder / "st"), create_model_card=False)
    return folder / "st", model


def ance(folder):
    """As Microsoft's checkpoint, and pyserini's: RoBERTa, a projection with a bias, LayerNorm; no pooler."""
    backbone(folder, "roberta")
    torch.manual_seed(5)
    head, norm = nn.Linear(32, 32), nn.LayerNorm(32)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    body = RobertaModel.from_pretrained(folder, add_pooling_layer=False).eval()
    state = {f"roberta.{name}": value for name, value in body.state_dict().items()}
    state |= {f"embeddingHead.{name}": value for name, value in head.state_dict().items()}
    state |= {f"norm.{name}": value for name, value in norm.state_dict().items()}
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    return body, head, norm
