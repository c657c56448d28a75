"""Where reasoning moves start in a text: "Wait", "Alternatively", and whatever else one lists."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

MOVES = ("Wait", "Alternatively", "Hmm", "But", "However", "Let me check", "等等", "让我检查")
"""Openings of a new thought (paper 5.1); capitals, because "but" within a sentence is none."""

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts without spaces between words, as their characters' Unicode names begin."""


class MoveFinder:
    """Finds the starts of moves, as whole words where the script has spaces; the longest of several is taken."""

    def __init__(self, moves: Sequence[str] = MOVES) -> None:
        """Compiles the list.

        Args:
            moves: Openings, in any language, told apart by case.

        Raises:
            ValueError: The list or one of its entries is empty.
        """
        if not moves or not all(move.strip() for move in moves):
            raise ValueError(f"moves: expected at least one opening and none that is empty, got {list(moves)}")
        longest_first = sorted(moves, key=len, reverse=True)
        pattern = "|".join(_boundary(move[0]) + re.escape(move) + _boundary(move[-1]) for move in longest_first)
        self._pattern = re.compile(pattern)

    def starts(self, text: str) -> Iterator[int]:
        """Yields the offset of each move's first character."""
        return (match.start() for match in self._pattern.finditer(text))


def _boundary(character: str) -> str:
    """Returns the pattern of a word's edge beside a character, empty where words have no edges."""
    if not character.isalnum() or unicodedata.name(character, "").startswith(_UNSPACED):
        return ""
    return r"\b"
