"""Give a BERT encoder without a masked-LM head one that has learnt nothing yet, so that a recipe can start from it.

    python experiments/with_head.py ENCODER_FOLDER NEW_FOLDER [--no-dropout]

The head's transform is the identity and its decoder is tied to the embeddings: a logit is near the inner product of a
hidden state and a word's embedding. `experiments/search-model.yaml` starts from all-MiniLM-L6-v2 made this way, and
`experiments/words.yaml` from the same without dropout.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertForMaskedLM, logging


def main(source: Path, target: Path, dropout: bool) -> None:
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
    if not dropout:
        model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)


if __name__ == "__main__":
    folders = [word for word in sys.argv[1:] if word != "--no-dropout"]
    if len(folders) != 2:
        sys.exit(__doc__)
    main(Path(folders[0]), Path(folders[1]), "--no-dropout" not in sys.argv)
