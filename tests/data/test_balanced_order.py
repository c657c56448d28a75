from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_r1v3.data.balanced_order import BalancedOrder

DOMAINS = ["law"] * 5 + ["music"] * 2 + ["physics"] * 2


def test_the_order_never_changes_between_versions() -> None:
    assert BalancedOrder(DOMAINS, seed=1).epoch(0).tolist() == GOLDEN


GOLDEN = [1, 8, 6, 3, 5, 7, 0, 6, 7]


@given(st.lists(st.sampled_from("abcd"), min_size=4, max_size=60), st.integers(0, 99), st.integers(0, 3))
def test_every_domain_is_drawn_equally_often(domains: list[str], seed: int, epoch: int) -> None:
    domains = [*domains, "a", "b"]
    drawn = BalancedOrder(domains, seed=seed).epoch(epoch)
    counts = Counter(domains[number] for number in drawn)
    assert len(drawn) == len(domains)
    assert counts.keys() == set(domains)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_stretch_holds_each_domain_once() -> None:
    domains = [str(number % 20) for number in range(400)]
    drawn = BalancedOrder(domains, seed=3).epoch(1)
    stretches = [[domains[number] for number in stretch] for stretch in drawn.reshape(20, 20)]
    assert all(len(set(stretch)) == 20 for stretch in stretches)
    assert len({tuple(stretch) for stretch in stretches}) == 20
    assert sorted(drawn) == list(range(400))


def test_a_domain_goes_through_all_its_samples_before_one_repeats() -> None:
    order = BalancedOrder(DOMAINS)
    laws = [number for epoch in (0, 1) for number in order.epoch(epoch) if DOMAINS[number] == "law"]
    assert len(set(laws[:5])) == 5
    music = Counter(number for number in order.epoch(0) if DOMAINS[number] == "music")
    assert set(music.values()) == {1, 2}


def test_seed_and_epoch_change_the_order() -> None:
    orders = [BalancedOrder(DOMAINS * 5, seed=seed).epoch(epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("domains", [["law"] * 3, ["", ""]])
def test_a_single_domain_is_refused(domains: list[str]) -> None:
    with pytest.raises(ValueError, match="several `domain`s"):
        BalancedOrder(domains)
