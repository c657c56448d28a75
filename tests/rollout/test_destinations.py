from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from served_layer import INPUTS, Layer
from torch import Tensor, nn
from torch.nn.functional import linear

from lightning_r1v3.rollout.buckets import TensorSpec, plan_buckets
from lightning_r1v3.rollout.destinations import Destinations

Load = Callable[[Tensor, Tensor], object]
"""What a model does with a weight `[8, 8]` and its parameter `[16, 8]`."""

LOADS: dict[str, tuple[Load, bool]] = {
    "the rows of a fused weight": (lambda parameter, weight: parameter[8:].copy_(weight), True),
    "not at all": (lambda _, __: None, False),
    "another layout": (lambda parameter, weight: parameter[8:].copy_(weight.T), False),
    "every other row": (lambda parameter, weight: parameter[::2].copy_(weight), False),
    "columns": (lambda parameter, weight: parameter.view(8, 16)[:, :8].copy_(weight), False),
    "a part": (lambda parameter, weight: parameter[8:12].copy_(weight[:4]), False),
    "a later part": (lambda parameter, weight: parameter[8:12].copy_(weight[4:]), False),
    "twice": (lambda parameter, weight: parameter.view(2, 8, 8).copy_(weight), False),
    "into two": (lambda parameter, weight: (parameter[8:].copy_(weight), parameter[:8].copy_(weight)), False),
    "computed": (lambda parameter, weight: parameter[8:].copy_(weight + 1), False),
    "and computed": (lambda parameter, weight: (parameter[8:].copy_(weight), parameter[:8].copy_(weight + 1)), False),
    "and changed": (lambda parameter, weight: parameter[8:].copy_(weight).add_(1), False),
    "another dtype": (lambda parameter, weight: parameter.view(torch.int32)[8:].copy_(weight), False),
    "nowhere": (lambda _, weight: torch.empty(8, 8).copy_(weight), False),
}


class Model(nn.Module):
    """One fused layer and a bias; the layer's weight is loaded in one of the ways above."""

    def __init__(self, load: Load) -> None:
        super().__init__()
        self.layer = Layer(nn.Parameter(torch.zeros(16, 8), requires_grad=False))
        self.bias = nn.Parameter(torch.zeros(16), requires_grad=False)
        self._load = load

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        for name, weight in weights:
            if name == "bias":
                self.bias.data.copy_(weight)
            else:
                self._load(self.layer.weight.data, weight)


def drawn(seed: int) -> list[tuple[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [("weight", torch.randn(8, 8, generator=generator)), ("bias", torch.randn(16, generator=generator))]


def place(destinations: Destinations, name: str, weight: Tensor, *, together_with: int = 0) -> Tensor | None:
    spec = TensorSpec(name, weight.dtype, tuple(weight.shape))
    (bucket,) = plan_buckets([spec, *[TensorSpec("other", torch.float32, (4,))] * together_with])
    return destinations.receiving(bucket)


@pytest.mark.parametrize(("load", "is_received"), LOADS.values(), ids=LOADS)
def test_weights_are_received_where_that_is_as_loading_them(load: Load, is_received: bool) -> None:
    model, expected = Model(load), Model(load)
    destinations = Destinations(model)
    destinations.load(drawn(0))
    for weights in (drawn(1), drawn(2)):
        expected.load_weights(weights)
        for name, weight in weights:
            memory = place(destinations, name, weight)
            assert (memory is not None) == (is_received or name == "bias")
            if memory is None:
                destinations.load([(name, weight)])
            else:
                memory.copy_(weight.view(-1).view(torch.uint8))
        for got, wanted in zip(model.parameters(), expected.parameters(), strict=True):
            assert torch.equal(got.view(torch.int32), wanted.view(torch.int32))


def test_layers_answer_with_what_is_received() -> None:
    model: Any = Model(lambda parameter, weight: parameter[8:].copy_(weight))
    destinations = Destinations(model)
    destinations.load(drawn(0))
    model.layer.cpu_linear.unpack()
    model.layer.cpu_linear.pack(model.layer.weight)
    memory = place(destinations, *drawn(1)[0])
    assert memory is not None
    memory.zero_()
    assert torch.equal(model.layer(INPUTS), linear(INPUTS, torch.zeros(16, 8)))


def test_what_is_not_the_weight_that_was_loaded_is_not_received() -> None:
    destinations = Destinations(Model(lambda parameter, weight: parameter[8:].copy_(weight)))
    (name, weight), _ = drawn(0)
    assert place(destinations, name, weight) is None
    destinations.load(drawn(0))
    assert place(destinations, name, weight) is not None
    assert place(destinations, name, weight.view(64)) is None
    assert place(destinations, name, weight.bfloat16()) is None
    assert place(destinations, "other", weight) is None
    assert place(destinations, name, weight, together_with=1) is None
