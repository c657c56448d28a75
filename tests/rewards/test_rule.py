from __future__ import annotations

import pytest

from lightning_r1v3.rewards.rule import rule_accuracy, rule_verdict


def test_choices_may_be_a_list() -> None:
    assert rule_accuracy("B", "b2", ["a1", "b2"])


def test_gold_that_is_no_choice_is_an_error() -> None:
    with pytest.raises(ValueError, match="from A to B"):
        rule_accuracy("B", "zebra", ("cat", "dog"))


def test_empty_gold_is_an_error() -> None:
    with pytest.raises(ValueError, match="gold answer"):
        rule_accuracy("5", " ")


def test_choice_written_twice_counts_by_either_letter() -> None:
    assert rule_accuracy("A", "D", ("20", "30", "15", "20"))


def test_final_answer_is_the_stated_one() -> None:
    assert rule_verdict(r"So \boxed{7}.", "5").final_answer == "7"


def test_answers_that_agree_are_one() -> None:
    assert rule_verdict(r"The answer is 0.5, or \boxed{\frac{1}{2}}", "5").final_answer == r"\frac{1}{2}"


def test_answers_that_differ_are_none() -> None:
    assert rule_verdict(r"\boxed{3} or \boxed{4}", "5").final_answer is None
