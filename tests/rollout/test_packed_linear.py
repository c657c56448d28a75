from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_r1v3.rollout.packed_linear import packed_linears


class FourBitLike(nn.Linear):
    """A subclass, whose weight may be anything."""


@pytest.mark.parametrize("bias", [False, True])
def test_the_result_is_the_layers_with_its_present_weight(bias: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 40, bias=bias), nn.Linear(40, 8, bias=bias))
    inputs = torch.randn(2, 3, 24)
    for _ in range(2):
        with torch.no_grad():
            model[0].weight.mul_(2)
            expected = model(inputs)
            with packed_linears(model):
                assert "forward" in vars(model[0])
                torch.testing.assert_close(model(inputs), expected)


def test_the_layers_are_themselves_again_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(RuntimeError), packed_linears(model):
        model(torch.randn(2, 5))
    assert not {"forward"} & set(vars(model[0]))
    assert model(torch.randn(2, 4)).requires_grad


@pytest.mark.parametrize("layer", [FourBitLike(4, 4), nn.Linear(4, 4, dtype=torch.bfloat16), nn.Conv1d(1, 1, 1)])
def test_other_layers_are_left_alone(layer: nn.Module) -> None:
    with packed_linears(layer):
        assert "forward" not in vars(layer)
