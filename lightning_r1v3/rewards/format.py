"""The format reward (paper, eq. 1)."""

from __future__ import annotations

from lightning_r1v3.rewards.tags import THINK_CLOSE, THINK_OPEN


def format_reward(completion: str, *, think_opened: bool = False) -> float:
    """Returns 1.0 when the completion is one non-empty `<think>…</think>` followed by an answer, else 0.0.

    White space around the parts is free. The reasoning must hold something: the reward would otherwise pay for
    not thinking.

    Args:
        completion: Text generated after the prompt.
        think_opened: True when the prompt ends in `<think>`; the completion must then not open it again.
    """
    text = THINK_OPEN + completion if think_opened else completion.lstrip()
    if not text.startswith(THINK_OPEN) or text.count(THINK_OPEN) != 1 or text.count(THINK_CLOSE) != 1:
        return 0.0
    reasoning, _, answer = text.removeprefix(THINK_OPEN).partition(THINK_CLOSE)
    return float(bool(reasoning.strip()) and bool(answer.strip()))
