"""The dense half of a checkpoint in our layout as a sentence-transformers folder, for those who run that library.

`modules.json` chains Transformer, Pooling, where D is not H a Dense without bias or activation, and Normalize where the
similarity is cosine. The lexical half stays behind: a `SparseEncoder` pools log(1 + ReLU(logit)) and ours the raw
logits of the ordinary tokens, which no module of that library makes.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.models.checkpoints import checkpoint, hub, layouts, new_folder
from harness.models.checkpoints.modules_json import MODULES
from harness.models.checkpoints.weights import quiet
from harness.models.errors import CheckpointError

# as every release of the library knows them
_MODULES = "sentence_transformers.models"
_CARD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, sentence-similarity]
---

The dense half (D = {dense}) of a dupmae-harness checkpoint, of content hash `{hash}`.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("this folder")
scores = model.similarity(model.encode_query(queries), model.encode_document(passages))
```

Pooling {pooling}, similarity {similarity}; queries of {query_length} tokens, passages of {passage_length}.
{lexical}
How it was trained: `{trained}`.
"""
_ALONE = "The checkpoint's lexical half (K = {0}) is not in it, so scores are those of the dense half alone."


def export_dense(source: Path, target: Path) -> None:
    """Write the dense half of the checkpoint `source` into the new folder `target`; whole, or not at all.

    `sentence_transformers.SentenceTransformer(target)` then gives our vectors (`encode_query`, `encode_document`), and
    so does `harness.models.checkpoints.checkpoint.load`. Release 6 of that library is needed where queries and passages
    are cut at different lengths, as an older one knows one length alone, and refuses the folder.

    Raises CheckpointError for a checkpoint that is not in our layout or has no dense half, and for a `target` that is
    there already; else as `harness.models.checkpoints.checkpoint.load`.
    """
    layout = layouts.read(source)
    if layout.kind != "ours":
        why = (
            "is a sentence-transformers folder already" if layout.kind == "sentence-transformers"
            else f"is {'an' if layout.kind == 'ANCE' else 'a'} {layout.kind} checkpoint: it has no hybrid.json"
        )  # fmt: skip
        raise CheckpointError(f"{source} {why}. What is exported is a checkpoint in our layout, as training leaves it.")
    spec = layout.spec()
    if spec.dense == 0:
        raise CheckpointError(
            f"{source} has no dense half (dense 0, lexical {spec.lexical}), and that is what is exported. Its "
            "lexical half has no form in sentence-transformers: a SparseEncoder pools log(1 + ReLU(logit)), this one "
            "the logits themselves."
        )
    new_folder.check(target)
    loaded = checkpoint.load(source, spec.replace(lexical=0))  # the bare encoder, without its masked-LM head
    with new_folder.whole(target) as new:
        _write(new, loaded, spec.lexical, hub.content_hash(source))


def _write(folder: Path, loaded: checkpoint.Loaded, lexical: int, digest: str) -> None:
    spec, projection = loaded.spec, loaded.encoder.projection
    chain = [("Transformer", "")]
    with quiet():
        loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    lengths = {"max_seq_length": spec.passage_length, "do_lower_case": False}
    if spec.query_length != spec.passage_length:
        lengths |= {"query_length": spec.query_length, "document_length": spec.passage_length}
    _json(folder / "sentence_bert_config.json", lengths)
    pooling = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}
    modes = {mode: name == spec.pooling for name, mode in pooling.items()}
    chain.append(("Pooling", "1_Pooling"))
    _json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": loaded.hidden, **modes})
    if projection is not None:
        chain.append(("Dense", "2_Dense"))
        _dense(folder / "2_Dense", projection.state_dict()["weight"])
    if spec.similarity == "cosine":
        chain.append(("Normalize", f"{len(chain)}_Normalize"))
        (folder / chain[-1][1]).mkdir()
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"{_MODULES}.{kind}"}
        for place, (kind, path) in enumerate(chain)
    ]
    _json(folder / MODULES, modules)
    prompts = {"query": spec.query_prefix, "document": spec.passage_prefix}
    _json(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": spec.similarity},
    )
    facts = asdict(spec) | {"hash": digest, "lexical": _ALONE.format(lexical) if lexical else ""}
    (folder / "README.md").write_text(_CARD.format(**facts), encoding="utf-8")


def _dense(folder: Path, weight: Any) -> None:
    from safetensors.torch import save_file

    width, hidden = weight.shape
    activation = "torch.nn.modules.linear.Identity"
    folder.mkdir()
    _json(
        folder / "config.json",
        {"in_features": hidden, "out_features": width, "bias": False, "activation_function": activation},
    )
    save_file({"linear.weight": weight.contiguous()}, folder / "model.safetensors")


def _json(path: Path, values: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
