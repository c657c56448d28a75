from __future__ import annotations

from fractions import Fraction

import pytest

from lightning_r1v3.rewards.numeric import MAX_DIGITS, Number, parse_number, same_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", Fraction(12)),
        ("-3.5", Fraction(-7, 2)),
        (".5", Fraction(1, 2)),
        ("1,234.5", Fraction(2469, 2)),
        ("3/4", Fraction(3, 4)),
        (r"\frac{3}{4}", Fraction(3, 4)),
        (r"-\frac34", Fraction(-3, 4)),
        (r"1\frac{1}{2}", Fraction(3, 2)),
        ("2 0/3", Fraction(2)),
        (r"3 \times 10^{5}", Fraction(300_000)),
        ("1e-3", Fraction(1, 1000)),
        ("$12", Fraction(12)),
        ("zero", Fraction(0)),
        ("twenty", Fraction(20)),
        ("1/0", None),
        ("1e999999999", None),
        ("1,23", None),
        ("x", None),
        ("", None),
        ("9" * (MAX_DIGITS + 1), None),
    ],
)
def test_value(text: str, value: Fraction | None) -> None:
    assert parse_number(text) == (None if value is None else Number(value))


def test_percent_equals_its_number_and_its_ratio() -> None:
    percent = Number(Fraction(50), percent=True)
    assert same_number(percent, Number(Fraction(50)))
    assert same_number(Number(Fraction(1, 2)), percent)
    assert not same_number(percent, Number(Fraction(1, 2), percent=True))
