"""A checkpoint in our layout with its weights in 16 bits: what is given away, or packed under `models/data`.

It takes half the bytes, and has only the files that loading needs. `harness.models.checkpoints.checkpoint.load` turns
the weights into the precision that it is asked for, float32 on a CPU. They are rounded once, here, to 11 significant
bits; nothing else changes.
"""

from pathlib import Path

import torch

from harness.models.checkpoints import checkpoint, layouts, new_folder
from harness.models.errors import CheckpointError

_LARGEST = torch.finfo(torch.float16).max  # 65,504
_SHOWN = 3
_SHARD = 24 * 2**20 - 2**16  # bytes of weights in a file, which with its header stays below 24 MiB


def export_float16(source: Path, target: Path) -> None:
    """Write the checkpoint `source` into the new folder `target` in float16; whole, or not at all.

    The embedding table that the masked-LM head shares is stored once; the head itself is left out where the checkpoint
    has no lexical half. Beyond 24 MiB the weights lie in several files, as `transformers` writes them. Equal
    checkpoints give equal bytes under the same releases of transformers and safetensors.

    Raises CheckpointError for a checkpoint that is not in our layout, for a weight beyond float16's 65,504, and for a
    `target` that is there already; else as `harness.models.checkpoints.checkpoint.load`.
    """
    layout = layouts.read(source)
    if layout.kind != "ours":
        raise CheckpointError(
            f"{source} has no hybrid.json, so it is no checkpoint in our layout. What is exported is one that training "
            "left."
        )
    new_folder.check(target)
    loaded = checkpoint.load(source, layout.spec())
    parts = [loaded.model, *filter(None, [loaded.encoder.projection])]
    _check_range(source, parts)
    with new_folder.whole(target) as folder:
        checkpoint.save(folder, loaded.model.half(), loaded.tokenizer, loaded.spec, _half(loaded), _SHARD)


def _half(loaded: checkpoint.Loaded) -> torch.nn.Module | None:
    projection = loaded.encoder.projection
    return None if projection is None else projection.half()


def _check_range(source: Path, parts: list[torch.nn.Module]) -> None:
    largest = {
        name: float(weight.detach().abs().max())
        for part in parts
        for name, weight in part.named_parameters()
        if weight.numel()
    }
    large = {name: value for name, value in largest.items() if value > _LARGEST}
    if large:
        shown = ", ".join(f"{name} ({value:,.0f})" for name, value in [*large.items()][:_SHOWN])
        raise CheckpointError(
            f"{source} holds weights beyond {_LARGEST:,.0f}, the largest number of float16: {shown}. It cannot be "
            "stored in 16 bits."
        )
