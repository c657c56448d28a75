"""What can be in a picture, apart from how it is drawn, and the words that transcribe it.

The same words serve as captions and open every chain, so that what pre-training taught to read is what reasoning starts
from.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from lightning_r1v3.data.mini.looks import COLOURS

SHAPES = ("circle", "square", "triangle", "cross")
"""Kinds of shapes."""
SIDE = 3
"""Rows and columns of a grid."""
NONE = "none"
"""Word for an empty cell."""
MAX_UNITS = 9
"""Tallest bar and longest side, in units."""

OBJECTS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
"""The 16 coloured shapes, e.g. `red circle`."""


@dataclass(frozen=True)
class Grid:
    """A 3x3 grid of words: coloured shapes (`red circle`), digits (`7`) or `none`."""

    cells: tuple[str, ...]
    """The nine cells, row by row."""

    def row(self, index: int) -> tuple[str, ...]:
        """Returns the three words of row `index`, 0 at the top, from the left."""
        return self.cells[SIDE * index : SIDE * (index + 1)]

    def column(self, index: int) -> tuple[str, ...]:
        """Returns the three words of column `index`, 0 at the left, from the top."""
        return self.cells[index::SIDE]

    def rows(self) -> tuple[tuple[str, ...], ...]:
        """Returns the rows from the top."""
        return tuple(self.row(index) for index in range(SIDE))

    def columns(self) -> tuple[tuple[str, ...], ...]:
        """Returns the columns from the left."""
        return tuple(self.column(index) for index in range(SIDE))

    def describe(self) -> str:
        """Returns the transcription, row by row."""
        return "; ".join(f"row {index + 1}: {', '.join(row)}" for index, row in enumerate(self.rows()))


@dataclass(frozen=True)
class Bars:
    """Three or four coloured bars on a base line."""

    heights: dict[str, int]
    """Height in units, 1 to 9, by colour, from the left."""

    def describe(self) -> str:
        """Returns the transcription, from the left."""
        return "bars: " + ", ".join(f"{colour} {height}" for colour, height in self.heights.items())


@dataclass(frozen=True)
class Figure:
    """A rectangle, or a right triangle with its legs along the unit grid."""

    shape: str
    """`rectangle` or `triangle`."""
    colour: str
    """Name of its colour."""
    width: int
    """Horizontal side in units, 2 to 9."""
    height: int
    """Vertical side in units, 2 to 9."""

    def describe(self) -> str:
        """Returns the transcription."""
        return f"{self.colour} {self.shape}: width {self.width}, height {self.height}"


Scene = Grid | Bars | Figure


def _scatter(rng: Random, words: list[str]) -> Grid:
    cells = words + [NONE] * (SIDE * SIDE - len(words))
    rng.shuffle(cells)
    return Grid(tuple(cells))


def random_shapes(rng: Random, fewest: int, most: int) -> Grid:
    """Returns a grid of `fewest` to `most` shapes of a random subset of colours and kinds, so that counts vary."""
    colours = rng.sample(COLOURS, rng.randint(1, len(COLOURS)))
    shapes = rng.sample(SHAPES, rng.randint(1, len(SHAPES)))
    return _scatter(rng, [f"{rng.choice(colours)} {rng.choice(shapes)}" for _ in range(rng.randint(fewest, most))])


def random_digits(rng: Random, fewest: int, most: int) -> Grid:
    """Returns a grid of `fewest` to `most` digits."""
    return _scatter(rng, [str(rng.randrange(10)) for _ in range(rng.randint(fewest, most))])


def random_bars(rng: Random, count: int) -> Bars:
    """Returns `count` bars (3 or 4) of different colours."""
    return Bars({colour: rng.randint(1, MAX_UNITS) for colour in rng.sample(COLOURS, count)})


def random_figure(rng: Random, shape: str) -> Figure:
    """Returns a figure of the given shape with random sides and colour."""
    return Figure(shape, rng.choice(COLOURS), rng.randint(2, MAX_UNITS), rng.randint(2, MAX_UNITS))
