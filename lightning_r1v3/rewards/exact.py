"""Exact match of the boxed answer: for worlds whose answers have one spelling."""

from __future__ import annotations

from lightning_r1v3.rewards.boxed import boxed_contents
from lightning_r1v3.rewards.tags import answer_part


def exact_accuracy(completion: str, answer: str, *, think_opened: bool = False) -> float:
    r"""Returns 1.0 when the completion's answer part boxes the gold answer, to the letter, and nothing else.

    Args:
        completion: Text generated after the prompt.
        answer: The gold answer; the letter of a multiple-choice question.
        think_opened: True when the prompt ends in `<think>`.
    """
    part = answer_part(completion, think_opened=think_opened)
    return float(part is not None and set(boxed_contents(part)) == {answer.strip()})
