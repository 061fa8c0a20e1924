"""What of the pre-training objective is a choice: the paper and the authors' code differ, and both are here."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["DupMAE", "RetroMAE"]
KINDS = ("DupMAE", "RetroMAE")


@dataclass(frozen=True)
class PretrainConfig:
    """Pre-training objectives (paper, sections 3.1 and 3.2), with each choice that is left or that the code changes.

    ===================  ==================================  =====================================================
    field                `paper(kind)`                       `official(kind)`, the authors' released code
    ===================  ==================================  =====================================================
    corruption           always [MASK]                       80 % [MASK], 10 % random, 10 % kept
    bow_positions        ordinary tokens, masked ones not    every attended position but the first
    bow_weights          1 for each distinct word            1/n for each distinct word, n = ordinary tokens
    bow_loss_weight      1                                   0.1
    decoder_query        CLS + position (equation 2)         DupMAE: CLS through the embedding block (position,
                                                             token type, LayerNorm); RetroMAE: CLS + position
    decoder_labels       every token                         every token but [CLS] and [SEP]
    masks                each word by itself                 as many tokens as round(rate · L), L with [CLS] and
                                                             [SEP], whole words in random order; a row of the decoder
                                                             takes one of min(L, 256) such masks
    reduction            sum over a text's tokens            mean over the batch's tokens
                         (equation 4, and like it the MLM)
    ===================  ==================================  =====================================================

    Both mask words at 0.3 for the encoder and 0.5 for each row of the decoder (section 4), and average over the batch
    what is summed over a text. The paper does not write L_mlm out; it is summed as equations 4 and 8 are, since
    equation 9 adds the three with equal weights.

    Raises ValueError for a rate outside (0, 1), a corruption that does not add up to 1, or an unknown choice.
    """

    kind: Kind = "DupMAE"
    encoder_mask_rate: float = 0.3
    decoder_mask_rate: float = 0.5
    corruption: tuple[float, float, float] = (1.0, 0.0, 0.0)  # of a chosen word: [MASK], random token, kept
    masks: Literal["expected", "exact"] = "expected"  # whether the rate holds on average, or in each mask
    bow_positions: Literal["unmasked", "all_but_first"] = "unmasked"
    bow_weights: Literal["one", "one_over_n"] = "one"
    bow_loss_weight: float = 1.0
    reconstruction_weight: float = 1.0  # 0 with kind DupMAE is OT decoding alone (Table 3)
    decoder_query: Literal["position", "embedding_block"] = "position"
    decoder_labels: Literal["all", "ordinary"] = "all"
    reduction: Literal["sum", "mean"] = "sum"  # of the masked-LM and the reconstruction loss
    chunk_logits: int = 1 << 25  # logits held at once; gradients do not depend on it

    def __post_init__(self) -> None:
        allowed = {
            "kind": KINDS,
            "masks": ("expected", "exact"),
            "bow_positions": ("unmasked", "all_but_first"),
            "bow_weights": ("one", "one_over_n"),
            "decoder_query": ("position", "embedding_block"),
            "decoder_labels": ("all", "ordinary"),
            "reduction": ("sum", "mean"),
        }
        for name, choices in allowed.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; there is {', '.join(choices)}")
        for name in ("encoder_mask_rate", "decoder_mask_rate"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; want a rate between 0 and 1")
        for name in ("bow_loss_weight", "reconstruction_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; want a number from 0 up")
        if len(self.corruption) != 3 or min(self.corruption) < 0 or abs(sum(self.corruption) - 1) > 1e-9:
            raise ValueError(f"corruption is {self.corruption}; want three shares that add up to 1")

    @property
    def tasks(self) -> str:
        """The decoding tasks that have a weight, as Table 3 names them: "CLS decoding", "OT decoding", both, or none.

        CLS decoding is the reconstruction from the CLS vector, OT decoding the bag of words from the ordinary tokens.
        """
        cls = self.reconstruction_weight > 0
        bow = self.kind == "DupMAE" and self.bow_loss_weight > 0
        return "CLS and OT decoding" if cls and bow else "CLS decoding" if cls else "OT decoding" if bow else "none"

    @classmethod
    def paper(cls, kind: Kind, **changes: Any) -> "PretrainConfig":
        """As the paper has it."""
        return dataclasses.replace(cls(kind=kind), **changes)

    @classmethod
    def official(cls, kind: Kind, **changes: Any) -> "PretrainConfig":
        """As the authors' released code has it (github.com/staoxiao/RetroMAE, src/pretrain)."""
        base = cls(
            kind=kind,
            corruption=(0.8, 0.1, 0.1),
            masks="exact",
            bow_positions="all_but_first",
            bow_weights="one_over_n",
            bow_loss_weight=0.1,
            decoder_query="embedding_block" if kind == "DupMAE" else "position",
            decoder_labels="ordinary",
            reduction="mean",
        )
        return dataclasses.replace(base, **changes)
