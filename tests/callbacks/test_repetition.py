from __future__ import annotations

import torch

from r1v3_callbacks.repetition import repeated_fractions


def test_golden() -> None:
    # 1 2 3 4 1 2 3 4 has five 4-grams, of which the last occurred before.
    ids = torch.tensor([[1, 2, 3, 4, 1, 2, 3, 4], [7, 7, 7, 7, 7, 7, 0, 0], [1, 2, 3, 0, 0, 0, 0, 0]])
    lengths = torch.tensor([8, 6, 3])
    mask = torch.arange(8) < lengths[:, None]
    assert repeated_fractions(ids, mask).tolist() == [1 / 5, 2 / 3, 0.0]


def test_short_completions_repeat_nothing() -> None:
    assert repeated_fractions(torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool)).sum() == 0
