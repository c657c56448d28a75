from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_r1v3.data.order import SampleOrder


def test_the_order_never_changes_between_versions() -> None:
    order = SampleOrder([8], seed=1)
    assert order.epoch(0).tolist() == GOLDEN_EPOCH_0
    assert order.epoch(1).tolist() == GOLDEN_EPOCH_1


GOLDEN_EPOCH_0 = [6, 7, 1, 5, 0, 2, 4, 3]
GOLDEN_EPOCH_1 = [3, 7, 1, 4, 6, 0, 2, 5]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 99), st.integers(0, 5))
def test_without_weights_every_sample_stands_once(sizes: list[int], seed: int, epoch: int) -> None:
    order = SampleOrder(sizes, seed=seed)
    assert sorted(order.epoch(epoch)) == list(range(sum(sizes))) == list(range(len(order)))


def test_seed_and_epoch_change_the_order() -> None:
    orders = [SampleOrder([50], seed=seed).epoch(epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_without_shuffle_it_is_file_order() -> None:
    assert SampleOrder([2, 3], shuffle=False).epoch(7).tolist() == [0, 1, 2, 3, 4]


def test_weights_set_the_draws_by_largest_remainders() -> None:
    assert SampleOrder([10, 10, 1], [1, 1, 1]).draws == (7, 7, 7)
    assert SampleOrder([3, 7], [1, 2]).draws == (3, 7)
    assert SampleOrder([5, 5], [0.25, 0.75]).draws == (3, 7)


def test_a_set_goes_through_all_its_samples_before_one_repeats() -> None:
    order = SampleOrder([4, 6], [1, 4], seed=3)
    assert order.draws == (2, 8)
    drawn = np.concatenate([order.epoch(epoch)[order.epoch(epoch) < 4] for epoch in (0, 1)])
    assert sorted(drawn) == [0, 1, 2, 3]
    large = order.epoch(0)[order.epoch(0) >= 4]
    assert np.bincount(large - 4).max() == 2
    assert np.bincount(large - 4).min() == 1


def test_weighted_sets_are_interleaved() -> None:
    order = SampleOrder([50, 50], [1, 1], seed=0).epoch(0)
    assert 10 < (order[:50] < 50).sum() < 40


@pytest.mark.parametrize(
    ("sizes", "weights", "seed"),
    [([], None, 0), ([0], None, 0), ([2], [1, 1], 0), ([2, 2], [1, 0], 0), ([2], None, -1)],
)
def test_what_does_not_fit_is_refused(sizes: list[int], weights: list[float] | None, seed: int) -> None:
    with pytest.raises(ValueError, match=r"expected|seed"):
        SampleOrder(sizes, weights, seed=seed)


def test_a_set_that_would_never_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="without a draw"):
        SampleOrder([5, 5], [1, 1000])
