from __future__ import annotations

import pytest
import torch

from lightning_r1v3.objectives.advantages import group_relative_advantages


def test_golden_group() -> None:
    advantages = group_relative_advantages(torch.tensor([1.0, 0.0, 0.0, 1.0]), 4, eps=0.0)
    assert advantages.tolist() == pytest.approx([0.8660254, -0.8660254, -0.8660254, 0.8660254])


def test_equal_rewards_give_zeros() -> None:
    assert group_relative_advantages(torch.tensor([0.1, 0.1, 0.1]), 3).tolist() == [0, 0, 0]


def test_each_group_sums_to_zero() -> None:
    advantages = group_relative_advantages(torch.rand(12, generator=torch.Generator().manual_seed(0)), 4)
    assert advantages.view(3, 4).sum(dim=1).abs().max() < 1e-5


def test_without_normalisation_the_scale_stays() -> None:
    assert group_relative_advantages(torch.tensor([3.0, 1.0]), 2, normalise="none").tolist() == [1, -1]


@pytest.mark.parametrize(("size", "group"), [(4, 3), (4, 1)])
def test_groups_that_do_not_fit_are_refused(size: int, group: int) -> None:
    with pytest.raises(ValueError, match="group_size"):
        group_relative_advantages(torch.zeros(size), group)
