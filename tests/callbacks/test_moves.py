from __future__ import annotations

import pytest

from r1v3_callbacks.moves import MoveFinder


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("So 4. Wait, no. But wait", [6, 16]),
        ("Waiting. Await. Butter, However.", [24]),
        ("Let me check: Let me see", [0]),
        ("所以是四。等等。让我检查一下", [5, 8]),
        ("Hmm\nHmm", [0, 4]),
        ("", []),
    ],
)
def test_moves_are_found_where_they_start(text: str, starts: list[int]) -> None:
    assert list(MoveFinder().starts(text)) == starts


def test_the_longest_move_counts_once() -> None:
    assert list(MoveFinder(["Let me", "Let me check"]).starts("Let me check. Let me go")) == [0, 14]


@pytest.mark.parametrize("moves", [[], ["Wait", " "]])
def test_empty_moves_are_refused(moves: list[str]) -> None:
    with pytest.raises(ValueError, match="moves"):
        MoveFinder(moves)
