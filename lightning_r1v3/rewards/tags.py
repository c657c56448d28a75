"""Splits a completion into its reasoning and its answer part.

Only `str.find` and `str.count` touch the whole completion, so a megabyte of text costs microseconds; everything
after this module works on at most `ANSWER_LIMIT` characters.
"""

from __future__ import annotations

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"

ANSWER_LIMIT = 16_384
"""Characters of the answer part that are read: its end, where the final answer stands."""


def answer_part(completion: str, *, think_opened: bool = False) -> str | None:
    """Returns the text in which the final answer must stand.

    That is what follows the last `</think>`. A completion without any tag is all answer.

    Args:
        completion: Text generated after the prompt.
        think_opened: True when the prompt ends in `<think>`, so that the completion starts inside it.

    Returns:
        The stripped answer part, cut to its last `ANSWER_LIMIT` characters, or None when the reasoning is
        still open at the end, so that there is no answer.
    """
    closed = completion.rfind(THINK_CLOSE)
    reopened = completion.find(THINK_OPEN, closed + len(THINK_CLOSE) if closed >= 0 else 0)
    if reopened >= 0 or (think_opened and closed < 0):
        return None
    start = closed + len(THINK_CLOSE) if closed >= 0 else 0
    return completion[start:].strip()[-ANSWER_LIMIT:]
