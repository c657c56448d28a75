from __future__ import annotations

import pytest
import torch

from lightning_r1v3.modules.overlong import Overlong


def test_by_default_length_costs_nothing() -> None:
    assert Overlong().penalties(torch.tensor([1, 100]), max_new_tokens=100).tolist() == [0.0, 0.0]


def test_the_penalty_grows_over_the_last_tokens() -> None:
    penalties = Overlong(penalty_tokens=20, penalty=0.5).penalties(torch.tensor([80, 85, 90, 100]), max_new_tokens=100)
    assert penalties.tolist() == pytest.approx([0.0, 0.125, 0.25, 0.5])


@pytest.mark.parametrize("settings", [{"penalty_tokens": -1}, {"penalty": -0.5}])
def test_negative_numbers_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Overlong(**settings)  # type: ignore[arg-type]
