from __future__ import annotations

import math
import random

import pytest

from r1v3_callbacks.robust import middle, scatter, trend


def test_a_trend_is_that_of_most_values() -> None:
    values = [3.0 - 0.1 * step for step in range(41)]
    for outlier in (4, 17, 30, 38):
        values[outlier] = 50.0
    assert trend(values) == pytest.approx(-4.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_scatter_does_not_hold_the_trend(seed: int) -> None:
    noise = random.Random(seed)
    values = [0.2 * step + noise.gauss(0, 1) for step in range(200)]
    assert trend(values) == pytest.approx(39.8, abs=5 * math.sqrt(12 / 200))
    assert scatter(values) == pytest.approx(1, rel=0.3)


def test_what_is_not_finite_is_left_out() -> None:
    assert middle([1.0, math.nan, 3.0, math.inf, 2.0]) == 2.0
    assert scatter([1.0, math.nan, 1.0]) == 0.0
    assert math.isnan(middle([math.nan]))
    assert scatter([5.0]) == 0.0
