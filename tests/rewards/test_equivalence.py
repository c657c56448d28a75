from __future__ import annotations

import pytest

from lightning_r1v3.rewards.equivalence import equivalent


@pytest.mark.parametrize("text", ["5", r"\frac{1}{2}", "x^2+1", "Paris", "(1, 2)", "2:1", "a, b", "4:30 p.m."])
def test_an_answer_equals_itself(text: str) -> None:
    assert equivalent(text, text)


@pytest.mark.parametrize(
    ("candidate", "gold"),
    [("", "5"), ("5", ""), ("yes", "sey"), ("4:2", "2:1"), ("3 or 4", "3"), ("1/3", "0.33"), ("5m", "50")],
)
def test_different_answers(candidate: str, gold: str) -> None:
    assert not equivalent(candidate, gold)


def test_one_letter_behind_a_gold_number_may_be_a_variable() -> None:
    assert not equivalent("5", "5m")
    assert equivalent("5", "5 m")
    assert equivalent("5m", "5")
