"""What differs among encoder families of `transformers`: embeddings, positions, heads, and the shape of a layer.

Pre-training wants more of a model than its hidden states: the output of its embedding block (H_2 of equation 2), its
position embeddings (H_1), and the head that makes logits of states.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

# `model_type` → where a masked-LM model keeps its head
HEADS = {
    **dict.fromkeys(("bert", "ernie"), "cls"),
    **dict.fromkeys(("camembert", "mpnet", "roberta", "xlm-roberta"), "lm_head"),
    "deberta": "deberta",
    "deberta-v2": "deberta",  # v3 as well
    "distilbert": "distilbert",
    "electra": "electra",
    "modernbert": "modernbert",
}
FAMILIES = tuple(sorted(HEADS))
_FROM_PADDING = ("camembert", "roberta", "xlm-roberta")  # positions are counted from behind the padding id


class WordHead(nn.Module):
    """A head whose last map are the word embeddings themselves (DeBERTa's own, `legacy` false)."""

    def __init__(self, head: Any, words: nn.Embedding) -> None:
        super().__init__()
        self.head, self.words = head, words

    @property
    def transform(self) -> nn.Sequential:
        """States [*,H] of states [*,H]."""
        return nn.Sequential(self.head.dense, self.head.transform_act_fn, self.head.LayerNorm)

    @property
    def weight(self) -> Tensor:
        """W [V,H]."""
        return self.words.weight

    @property
    def bias(self) -> Tensor:
        """b [V]."""
        found: Tensor = self.head.bias
        return found

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits [*,V] of states [*,H]."""
        found: Tensor = self.head(hidden, self.words)
        return found


def mlm_head(model: Any) -> nn.Module:
    """The part of a `transformers` masked-LM model that maps hidden states to logits.

    Raises ValueError for an architecture whose head is not known here.
    """
    kind = model.config.model_type
    where = HEADS.get(kind)
    if where is None:
        raise ValueError(f"the masked-LM head of {kind!r} is not known; there is {', '.join(FAMILIES)}")
    if where == "deberta":
        legacy = getattr(model, "cls", None)
        words = model.get_input_embeddings()
        return _module(legacy if legacy is not None else WordHead(model.lm_predictions.lm_head, words))
    if where == "distilbert":
        return nn.Sequential(model.vocab_transform, model.activation, model.vocab_layer_norm, model.vocab_projector)
    if where == "electra":
        inner = model.generator_predictions
        return nn.Sequential(inner.dense, inner.activation, inner.LayerNorm, model.generator_lm_head)
    if where == "modernbert":
        return nn.Sequential(model.head, model.decoder)
    return _module(getattr(model, where))


def _module(part: Any) -> nn.Module:
    if not isinstance(part, nn.Module):
        raise TypeError(f"expected a module, got {type(part).__name__}")
    return part


def embedded(base: Any, input_ids: Tensor) -> Tensor:
    """The output of the embedding block [B,L,H] of token ids [B,L]."""
    return _as_wide(base, base.embeddings(input_ids=input_ids))


def embedded_states(base: Any, states: Tensor) -> Tensor:
    """The embedding block over states [B,L,H] in place of word embeddings: position, token type, LayerNorm.

    Raises ValueError where word embeddings are not as wide as the states.
    """
    if base.get_input_embeddings().weight.shape[1] != states.shape[-1]:
        raise ValueError("decoder_query embedding_block: this model's word embeddings are narrower than its states")
    by_name = {"input_ids": None} if base.config.model_type == "distilbert" else {}
    found: Tensor = base.embeddings(inputs_embeds=states, **by_name)
    return found


def _as_wide(base: Any, found: Tensor) -> Tensor:
    project = getattr(base, "embeddings_project", None)  # electra-small
    wide: Tensor = found if project is None else project(found)
    return wide


def has_positions(base: Any) -> bool:
    """Whether the embedding block adds absolute positions: not where attention itself knows them.

    ModernBERT turns queries and keys by their positions, DeBERTa has relative ones.
    """
    return getattr(base.embeddings, "position_embeddings", None) is not None


def position_table(base: Any) -> Tensor | None:
    """The position embeddings [P,H] from the first token on; None where there are none, or none as wide as states."""
    if not has_positions(base):
        return None
    table: Tensor = base.embeddings.position_embeddings.weight
    if table.shape[1] != base.config.hidden_size:
        return None
    kind = base.config.model_type
    first = base.config.pad_token_id + 1 if kind in _FROM_PADDING else 2 if kind == "mpnet" else 0
    return table[first:]


# BERT's names of what shapes a layer → what another family calls them
_SHAPES = {
    "distilbert": {
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
    },
    "modernbert": {
        "hidden_act": "hidden_activation",
        "hidden_dropout_prob": "mlp_dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "layer_norm_eps": "norm_eps",
    },
}
_SHAPE = (
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "layer_norm_eps",
    "initializer_range",
)


def layer_shape(config: Any) -> Any:
    """What a layer as BERT's is made from, under BERT's names, of any family's configuration."""
    names = _SHAPES.get(config.model_type)
    if names is None:
        return config
    usual = {"layer_norm_eps": 1e-12}  # DistilBERT's, which its configuration does not hold
    return SimpleNamespace(**{name: getattr(config, names.get(name, name), usual.get(name)) for name in _SHAPE})


def has_head(config: Any) -> bool:
    """Whether a configuration says that its weights hold a masked-LM head."""
    return any(str(kind).endswith("ForMaskedLM") for kind in config.architectures or ())


def learned_positions(config: Any, spread: float, most: int = 8_192) -> nn.Embedding:
    """Position embeddings [P,H] of a decoder's own, for a model without any; BERT's initialisation."""
    made = nn.Embedding(min(most, int(getattr(config, "max_position_embeddings", most))), int(config.hidden_size))
    with torch.no_grad():
        made.weight.normal_(std=spread)
    return made
