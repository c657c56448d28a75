from __future__ import annotations

from typing import Any

import pytest
import torch
from served_layer import INPUTS, Layer, copy_into, frozen_product
from torch import nn
from torch.nn.functional import linear

from lightning_r1v3.rollout.late_packing import LatePackedProduct, is_loadable_in_place, loaded_in_place


@pytest.fixture
def model() -> nn.Module:
    """The first and the last layer are tied."""
    generator = torch.Generator().manual_seed(1)
    shared, other = (nn.Parameter(torch.randn(8, 8, generator=generator), requires_grad=False) for _ in range(2))
    return nn.ModuleList([Layer(shared), Layer(other), Layer(shared)])


def test_layers_answer_with_what_was_loaded_and_go_on_so_once_packed(model: Any) -> None:
    new = torch.ones(8, 8)
    with loaded_in_place(model):
        model[0].weight.weight_loader(model[0].weight, new)
    for _ in range(2):
        assert torch.equal(model[0](INPUTS), linear(INPUTS, new))
        assert torch.equal(model[2](INPUTS), linear(INPUTS, new))
        assert torch.equal(model[1](INPUTS), linear(INPUTS, model[1].weight))
        for layer in model:
            layer.cpu_linear.pack(layer.weight)


def test_only_what_was_loaded_is_packed_anew(model: Any) -> None:
    before = [layer.cpu_linear._packed for layer in model]
    with loaded_in_place(model):
        model[1].weight.weight_loader(model[1].weight, torch.ones(8, 8))
    for layer in model:
        layer.cpu_linear.pack(layer.weight)
    after = [layer.cpu_linear._packed for layer in model]
    assert [one is other for one, other in zip(before, after, strict=True)] == [True, False, True]


def test_a_weight_that_changes_while_it_is_packed_stays_plain() -> None:
    weight = torch.zeros(8, 8)

    def interrupted(layer: Any, _: bool) -> None:
        frozen_product(layer, False)
        product.unpack()
        weight.fill_(1.0)

    product = LatePackedProduct(linear, interrupted)
    product.unpack()
    product.pack(weight)
    assert torch.equal(product(INPUTS, weight, None), linear(INPUTS, torch.ones(8, 8)))


def test_loaders_are_as_before_afterwards(model: Any) -> None:
    with loaded_in_place(model):
        assert model[0].weight.weight_loader is not copy_into
    assert all(layer.weight.weight_loader is copy_into for layer in model)


def test_layers_in_other_formats_are_not_loaded_in_place(model: Any) -> None:
    assert is_loadable_in_place(model)
    model[1].cpu_linear = linear
    assert not is_loadable_in_place(model)
