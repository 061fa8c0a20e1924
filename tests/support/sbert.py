"""Small models of sentence-transformers beyond one Transformer with a pooling: static, routed and sparse."""

import torch
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from sentence_transformers.sparse_encoder.modules import MLMTransformer, SparseStaticEmbedding, SpladePooling

from harness.models.checkpoints.weights import quiet
from tests.support import layouts, tiny


def _kept(model, folder):
    model.eval()
    with quiet():
        model.save(str(folder), create_model_card=False)
    return folder, model


def static(folder, **settings):
    torch.manual_seed(6)
    words = StaticEmbedding(tiny.tokenizer(), embedding_weights=torch.randn(len(tiny.tokenizer()), 32))
    return _kept(SentenceTransformer(modules=[words], device="cpu", **settings), folder / "static")


def routed(folder, **settings):
    """Queries by a table of word vectors, passages by a Transformer with a pooling."""
    torch.manual_seed(7)
    words = StaticEmbedding(tiny.tokenizer(), embedding_weights=torch.randn(len(tiny.tokenizer()), 32))
    layouts.backbone(folder / "base")
    with quiet():
        body = Transformer(str(folder / "base"), max_seq_length=12)
    router = Router.for_query_document([words], [body, Pooling(32, pooling_mode="mean")])
    return _kept(SentenceTransformer(modules=[router], device="cpu", **settings), folder / "routed")


def masked_lm(folder):
    with quiet():
        tiny.masked_lm().save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        return MLMTransformer(str(folder), max_seq_length=12)


def splade(folder, **settings):
    modules = [masked_lm(folder / "mlm"), SpladePooling("max")]
    return _kept(SparseEncoder(modules=modules, device="cpu", **settings), folder / "splade")


def inference_free(folder, **settings):
    """SPLADE's passages; a query is its words, each with a weight of its own."""
    torch.manual_seed(8)
    words = SparseStaticEmbedding(tiny.tokenizer(), weight=torch.rand(len(tiny.tokenizer())))
    router = Router.for_query_document([words], [masked_lm(folder / "mlm"), SpladePooling("max")])
    return _kept(SparseEncoder(modules=[router], device="cpu", **settings), folder / "inference-free")
