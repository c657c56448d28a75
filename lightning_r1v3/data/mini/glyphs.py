"""The digits 0 to 9 as bitmaps of 5 x 7 dots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROWS = (
    "01110 00100 01110 11111 00010 11111 00110 11111 01110 01110",
    "10001 01100 10001 00010 00110 10000 01000 00001 10001 10001",
    "10011 00100 00001 00100 01010 11110 10000 00010 10001 10001",
    "10101 00100 00010 00010 10010 00001 11110 00100 01110 01111",
    "11001 00100 00100 00001 11111 00001 10001 01000 10001 00001",
    "10001 00100 01000 10001 00010 10001 10001 01000 10001 00010",
    "01110 01110 11111 01110 00010 01110 01110 01000 01110 01100",
)

DOT = 2
"""Pixels per dot: a digit is 10 x 14 pixels."""


def _bitmap(digit: int) -> NDArray[np.uint8]:
    dots = np.array([[int(dot) for dot in row.split()[digit]] for row in _ROWS], dtype=np.uint8)
    return np.kron(dots, np.full((DOT, DOT), 255, dtype=np.uint8))


GLYPHS: tuple[NDArray[np.uint8], ...] = tuple(_bitmap(digit) for digit in range(10))
"""uint8 `[14, 10]` masks, 255 where there is ink, by digit."""
