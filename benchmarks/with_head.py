"""Give a BERT encoder without a masked-LM head one that has learnt nothing yet, so that a recipe can start from it.

    python benchmarks/with_head.py ENCODER_FOLDER NEW_FOLDER

The head's transform is the identity and its decoder is tied to the embeddings: a logit is near the inner product of a
hidden state and a word's embedding. `benchmarks/search-model.yaml` starts from all-MiniLM-L6-v2 made this way.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertForMaskedLM, logging


def main(source: Path, target: Path) -> None:
    """Load, make the head, save."""
    logging.set_verbosity_error()  # it reports the missing head, which is why we are here
    model = BertForMaskedLM.from_pretrained(source)
    head = model.cls.predictions
    with torch.no_grad():
        head.transform.dense.weight.copy_(torch.eye(model.config.hidden_size))
        head.transform.dense.bias.zero_()
        head.transform.LayerNorm.weight.fill_(1.0)
        head.transform.LayerNorm.bias.zero_()
        head.bias.zero_()
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
