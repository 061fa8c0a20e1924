"""The layers that another library's checkpoint has between the pooled state and the vector."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from harness.models.checkpoints.weights import tensors_in
from harness.models.errors import CheckpointError

Build = Callable[[int], nn.Module]  # from the width that comes in
# by the last part of their names, so that they hold for the classes of every release
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU, "Sigmoid": nn.Sigmoid
}  # fmt: skip


class Normalised(nn.Module):
    """Divides each vector by its Euclidean norm, in the middle of a chain."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """[B,D] to [B,D]."""
        return functional.normalize(vectors, dim=-1)


def dense(folder: Path, name: str, activation: str | None = None, with_bias: bool | None = None) -> Build:
    """A layer W x + b from the tensors `name`.weight [D,H] and, where it is there, `name`.bias; then the activation.

    Raises CheckpointError for an activation that is not known; when built, for tensors that are missing or do not fit,
    or a bias that is there or not, other than `with_bias` says.
    """
    kind = (activation or "Identity").rpartition(".")[2]
    if kind not in _ACTIVATIONS:
        raise CheckpointError(f"{folder}: the activation {kind} is not known; there is {', '.join(_ACTIVATIONS)}.")

    def build(width: int) -> nn.Module:
        found = _parameters(folder, name)
        weight, bias = found.get("weight"), found.get("bias")
        if weight is None or weight.ndim != 2 or weight.shape[1] != width:
            got = "no weight" if weight is None else f"a weight {list(weight.shape)}"
            raise CheckpointError(
                f"{folder} holds {got} of {name}; what comes before it is {width} wide: want [D, {width}]."
            )
        if with_bias is not None and with_bias != (bias is not None):
            raise CheckpointError(f"{folder}: config.json says bias is {with_bias}, and the weights are otherwise.")
        layer = nn.Linear(width, weight.shape[0], bias=bias is not None)
        layer.load_state_dict({key: value for key, value in found.items() if key in ("weight", "bias")})
        return layer if kind == "Identity" else nn.Sequential(layer, _ACTIVATIONS[kind]())

    return build


def layer_norm(folder: Path) -> Build:
    """A LayerNorm from the tensors norm.weight and norm.bias. Raises CheckpointError, when built, as `dense`."""

    def build(width: int) -> nn.Module:
        found = _parameters(folder, "norm")
        if {name: list(value.shape) for name, value in found.items()} != {"weight": [width], "bias": [width]}:
            raise CheckpointError(f"{folder} holds no LayerNorm of width {width} (norm.weight, norm.bias).")
        layer = nn.LayerNorm(width)
        layer.load_state_dict(found)
        return layer

    return build


def _parameters(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """The tensors `name`.* of a folder's weights, without that prefix."""
    found = tensors_in(folder)
    return {key.removeprefix(f"{name}."): value for key, value in found.items() if key.startswith(f"{name}.")}


def width(layers: nn.Module) -> int:
    """D, of the last layer that has weights."""
    return int(list(layers.parameters())[-1].shape[0])
