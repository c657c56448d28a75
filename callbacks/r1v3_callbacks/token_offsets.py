"""Which token holds a character of the decoded text, for any tokenizer and any split of the words."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

Decode = Callable[[list[int]], str]
"""Text of a list of token ids."""

LONGEST_CHARACTER = 16
"""Tokens tried together before giving up: no character, joined emoji aside, is split over more."""
UNFINISHED = "\ufffd"
"""What decoders write for part of a character."""


class TokenOffsets:
    """Aligns tokens with the text that they decode to; remembers the text of each token of the vocabulary."""

    def __init__(self, decode: Decode) -> None:
        """Starts with an empty memory.

        Args:
            decode: The tokenizer's.
        """
        self._decode = decode
        self._pieces: dict[int, str] = {}

    def holders(self, token_ids: Sequence[int], text: str, positions: Sequence[int]) -> list[int]:
        """Returns the index of the token that each character belongs to, the first one where several make it.

        Args:
            token_ids: The tokens.
            text: What they decode to together.
            positions: Offsets of the characters in `text`.
        """
        starts = self._starts(token_ids, text)
        if starts is not None:
            return [bisect_right(starts, position) - 1 for position in positions]

        def length_of_prefix(count: int) -> int:
            return len(self._decode(list(token_ids[:count])).rstrip(UNFINISHED))

        counts = range(len(token_ids) + 1)
        return [min(bisect_right(counts, at, key=length_of_prefix), len(token_ids)) - 1 for at in positions]

    def _starts(self, token_ids: Sequence[int], text: str) -> list[int] | None:
        """The offset at which each token starts; None where a decoder rewrites the text across tokens.

        Tokens mostly decode one by one to consecutive parts of the text; parts of a character only do so together.
        """
        starts: list[int] = []
        position = 0
        while len(starts) < len(token_ids):
            for length in range(1, LONGEST_CHARACTER + 1):
                run = token_ids[len(starts) : len(starts) + length]
                end = _end(text, self._piece(run), position)
                if end is not None:
                    break
            else:
                return None
            starts += [position] + [end] * (len(run) - 1)
            position = end
        return starts

    def _piece(self, run: Sequence[int]) -> str:
        if len(run) > 1:
            return self._decode(list(run))
        token = run[0]
        if token not in self._pieces:
            self._pieces[token] = self._decode([token])
        return self._pieces[token]


def _end(text: str, piece: str, position: int) -> int | None:
    """The end of the piece at the position, or after the space that some decoders put before a word."""
    for start in (position, position + 1 if text.startswith(" ", position) else position):
        if text.startswith(piece, start):
            return start + len(piece)
    return None
