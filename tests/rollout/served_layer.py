"""A layer as vLLM prepares one on a CPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lightning_r1v3.rollout.late_packing import LatePackedProduct

INPUTS = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def frozen_product(layer: Any, _: bool) -> None:
    """Stands for vLLM's preparation: what comes of the weight as it is now."""
    kept = layer.weight.detach().clone()
    layer.cpu_linear = lambda inputs, _, bias: linear(inputs, kept, bias)


def copy_into(parameter: Tensor, loaded: Tensor) -> None:
    parameter.data.copy_(loaded)


class Layer(nn.Module):
    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight: Any = weight
        self.weight.weight_loader = copy_into
        self.quant_method = object()
        prepared: Any = SimpleNamespace(weight=weight)
        frozen_product(prepared, False)
        self.cpu_linear: Any = LatePackedProduct(prepared.cpu_linear, frozen_product)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.cpu_linear(inputs, self.weight, None)
        return out
