from __future__ import annotations

import pytest
import torch

from r1v3_callbacks.entropy_summary import entropy_metrics, entropy_part

ENTROPY = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 9.0, 9.0]])
MASK = torch.tensor([[True, True, True, True], [True, True, False, False]])


def test_golden() -> None:
    part = entropy_part(ENTROPY, MASK, [[1], [0]], num_after=2, threshold=4.5)
    metrics = entropy_metrics([part], prefix="train", quantiles=(0.5,))
    assert metrics == {
        "train/critical_token_entropy/count": 2,
        "train/critical_token_entropy": 3.5,
        "train/critical_token_entropy/q50": 3.5,
        "train/critical_token_entropy/after": (3 + 4 + 6) / 3,
        "train/token_entropy": 21 / 6,
        "train/high_entropy_fraction": 2 / 6,
    }
    assert sum(part.histogram) == 6


def test_parts_add_up_to_the_whole() -> None:
    starts = [[0, 3], [1]]
    whole = entropy_part(ENTROPY, MASK, starts, num_after=1, threshold=2.5)
    rows = [slice(0, 1), slice(1, 2)]
    parts = [entropy_part(ENTROPY[row], MASK[row], starts[row], num_after=1, threshold=2.5) for row in rows]
    quantiles = (0.1, 0.9)
    metrics = entropy_metrics(parts, prefix="x", quantiles=quantiles)
    assert metrics == pytest.approx(entropy_metrics([whole], prefix="x", quantiles=quantiles), rel=1e-12)


def test_a_step_without_a_move_logs_the_count_alone() -> None:
    nothing = entropy_part(ENTROPY[:, :0], MASK[:, :0], [[], []], num_after=2, threshold=1.0)
    assert entropy_metrics([nothing], prefix="train", quantiles=()) == {"train/critical_token_entropy/count": 0}
