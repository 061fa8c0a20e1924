"""Recipes of a few steps."""

from harness.datasets.loader import MINI

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

# every kind of stage
_LOOP = {"learning_rate": 0.003, "log_every": 2, "save_every": 3}
STAGES = {
    "pretrain": {"kind": "pretrain", "steps": 6, "batch": 8, "micro_batch": 4, "length": 24, **_LOOP},
    "in_batch": {"kind": "finetune", "dense": 16, "lexical": 16, "steps": 6, "batch": 8, "passage_length": 32, **_LOOP},
    "weigh": {"kind": "weigh", "collections": ["mini"], "metric": "NDCG@10", "factors": [1e-5, 0.01, 1, 64]},
    "mine": {"kind": "mine", "depth": 20},
    "hard": {"kind": "finetune", "negatives": 2, "steps": 4, "batch": 4, "chunk": 5, "passage_length": 32, **_LOOP},
    "bm25": {"kind": "mine", "retriever": "bm25", "depth": 10, "least": 5},
    "teacher": {
        "kind": "teacher", "start_from": "pretrain", "negatives": 2, "steps": 4, "batch": 4, "chunk": 2, "length": 48,
        **_LOOP,
    },
    "score": {"kind": "score", "candidates": 4},
    "distil": {
        "kind": "finetune", "negatives": 3, "distil": True, "contrastive_weight": 0.1, "steps": 4, "batch": 4,
        "passage_length": 32, **_LOOP,
    },
}  # fmt: skip
WHOLE = {
    "name": "tiny",
    "base": {
        "vocabulary": 400,
        "model": {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
            "max_position_embeddings": 64,
        },
    },
    "data": {"corpora": [str(MINI)], "train": ["mini"], "validate_on": "mini", "evaluate": ["mini"]},
    "stages": STAGES,
}  # fmt: skip
