from __future__ import annotations

import math

import pytest

from r1v3_callbacks.correlation import spearman


def test_golden_with_ties() -> None:
    # Ranks 1, 2.5, 2.5, 4, 5 and 2, 1, 3, 5, 4: covariance 7 over sqrt(9.5 * 10).
    found = spearman([1.0, 2.0, 2.0, 3.0, 4.0], [20.0, 10.0, 30.0, 50.0, 40.0])
    assert found.value == pytest.approx(7 / math.sqrt(95))
    centre, width = math.atanh(found.value), 1.959964 * math.sqrt((1 + found.value**2 / 2) / 2)
    assert (found.low, found.high) == pytest.approx((math.tanh(centre - width), math.tanh(centre + width)))
    assert found.num_points == 5


def test_order_alone_counts() -> None:
    assert spearman([1, 2, 3, 4], [1, 10, 100, 1000]).value == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, -50]).value == pytest.approx(-1)


def test_too_little_to_tell_is_nan() -> None:
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]).value)
    assert math.isnan(spearman([1, 2, 3], [1, 3, 2]).low)
    assert spearman([1, 2, math.nan], [1, 2, 3]).num_points == 2
