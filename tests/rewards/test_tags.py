from __future__ import annotations

from lightning_r1v3.rewards.tags import ANSWER_LIMIT, answer_part


def test_answer_follows_the_last_closing_tag() -> None:
    assert answer_part("<think>a</think> b </think> c ") == "c"


def test_without_tags_all_is_answer() -> None:
    assert answer_part("b") == "b"


def test_unclosed_reasoning_has_no_answer() -> None:
    assert answer_part("<think>a") is None
    assert answer_part("a", think_opened=True) is None


def test_long_answer_keeps_its_end() -> None:
    part = answer_part("x" * 1_000_000 + "y")
    assert part is not None
    assert len(part) == ANSWER_LIMIT
    assert part.endswith("y")
