"""Recipes of a few steps."""

from harness.datasets.dataset import MINI

LOOP = {"learning_rate": 0.003, "log_every": 1, "save_every": 1}
RECIPE = {
    "name": "tiny",
    "base": {
        "vocabulary": 200,
        "model": {
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
            "max_position_embeddings": 64,
        },
    },
    "data": {
        "corpora": [str(MINI)], "train": ["taught/train"], "evaluate": ["taught/test"], "against": ["coordination"],
    },
    "stages": {
        "pretrain": {"kind": "pretrain", "steps": 3, "batch": 8, "micro_batch": 4, "length": 16, **LOOP},
        "in_batch": {"kind": "finetune", "steps": 3, "batch": 4, "passage_length": 16, **LOOP},
        "mine": {"kind": "mine", "depth": 8},
        "hard": {"kind": "finetune", "negatives": 1, "steps": 2, "batch": 4, "passage_length": 16, **LOOP},
        "mine_again": {"kind": "mine", "depth": 5},
    },
}  # fmt: skip
