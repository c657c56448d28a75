from __future__ import annotations

import pytest

from lightning_r1v3.rewards.format import format_reward


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        ("<think>a</think>b", 1.0),
        ("\n<think>\na\n</think>\n\nb\n", 1.0),
        ("<think>a <b> c</think>d", 1.0),
        ("<think></think>b", 0.0),
        ("<think> \n</think>b", 0.0),
        ("<think>a</think>", 0.0),
        ("<think>a</think> \n", 0.0),
        ("<think>a", 0.0),
        ("a</think>b", 0.0),
        ("b", 0.0),
        ("", 0.0),
        ("b<think>a</think>c", 0.0),
        ("<think>a</think>b<think>c</think>d", 0.0),
        ("<think><think>a</think></think>b", 0.0),
        ("</think>a<think>b", 0.0),
        ("<Think>a</Think>b", 0.0),
    ],
)
def test_format_of_a_whole_completion(completion: str, reward: float) -> None:
    assert format_reward(completion) == reward


@pytest.mark.parametrize(
    ("completion", "reward"),
    [("a</think>b", 1.0), ("a", 0.0), ("</think>b", 0.0), ("<think>a</think>b", 0.0), ("a</think>", 0.0)],
)
def test_format_of_a_completion_that_starts_inside_the_tag(completion: str, reward: float) -> None:
    assert format_reward(completion, think_opened=True) == reward
