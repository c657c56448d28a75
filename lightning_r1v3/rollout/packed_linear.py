"""Linear layers of a decoding on a CPU, their weights in oneDNN's own layout.

A decoding step multiplies a few rows with every weight, and torch's product lays the weight out anew each time. Here it
is laid out once for all steps, as torch's inductor does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def packed_linears(model: nn.Module) -> Iterator[None]:
    """Has a model's linear layers compute with packed copies of their present weights, without gradients.

    Only float32 layers on a CPU that has oneDNN; all others stay as they are.
    """
    linears = [module for module in model.modules() if type(module) is nn.Linear]  # 4-bit layers are a subclass
    layers = [linear for linear in linears if _can_be_packed(linear.weight)]
    for layer in layers:
        layer.forward = _packed_forward(layer)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _can_be_packed(weight: Tensor) -> bool:
    return torch.backends.mkldnn.is_available() and weight.device.type == "cpu" and weight.dtype == torch.float32


def _packed_forward(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
    bias = None if layer.bias is None else layer.bias.detach()

    def forward(inputs: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
        return out

    return forward
