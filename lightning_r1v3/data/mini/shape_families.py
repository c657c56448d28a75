"""Tasks on grids of coloured shapes: counting, comparing counts, finding what is where."""

from __future__ import annotations

from random import Random

from lightning_r1v3.data.mini.looks import COLOURS
from lightning_r1v3.data.mini.puzzles import Family, Line, Puzzle, Values, Way, numbers, plus
from lightning_r1v3.data.mini.scenes import NONE, OBJECTS, SHAPES, SIDE, Grid, random_shapes

NORMAL_SHAPES = (2, 8)
HARD_SHAPES = (5, 8)
_PLURALS = dict(zip(SHAPES, ("circles", "squares", "triangles", "crosses"), strict=True))
_NEIGHBOURS = {"to the right of": (0, 1), "to the left of": (0, -1), "below": (1, 0), "above": (-1, 0)}


def _plural(word: str) -> str:
    """Noun phrase of the shapes that have a colour or are of a kind."""
    return _PLURALS.get(word, f"{word} {{items}}")


def _tallies(lines: tuple[tuple[str, ...], ...], words: tuple[str, ...]) -> Values:
    """Counts of each word in each of three lines, word after word."""
    return tuple(sum(word in cell.split() for cell in line) for word in words for line in lines)


def _formula(totals: list[int], weights: tuple[int, ...]) -> str:
    """Writes the weighted sum out, e.g. `3 + 3 - 2` for weights 2 and -1."""
    terms = (
        f" {'+' if weight > 0 else '-'} {total}"
        for total, weight in zip(totals, weights, strict=True)
        for _ in range(abs(weight))
    )
    return "".join(terms).removeprefix(" + ")


def _tally_ways(grid: Grid, words: tuple[str, ...], weights: tuple[int, ...]) -> tuple[Way, Way]:
    """Counts the words by rows and by columns; a weight of -1 subtracts, 2 adds twice."""

    def counted_by(line: str) -> Way:
        def explain(values: Values) -> Line:
            groups = [values[SIDE * index : SIDE * (index + 1)] for index in range(len(words))]
            counted = [f"{word} by {line}s: {plus(group)}." for word, group in zip(words, groups, strict=True)]
            totals = [sum(group) for group in groups]
            result = str(sum(weight * total for weight, total in zip(weights, totals, strict=True)))
            if weights != (1,):
                counted.append(f"{_formula(totals, weights)} = {result}.")
            return " ".join(counted), result

        return Way(_tallies(grid.rows() if line == "row" else grid.columns(), words), explain)

    return counted_by("row"), counted_by("column")


def _count(rng: Random) -> Puzzle:
    grid = random_shapes(rng, *NORMAL_SHAPES)
    word = rng.choice(COLOURS + SHAPES)
    return Puzzle(grid, f"the number of {_plural(word)}", *_tally_ways(grid, (word,), (1,)))


def _count_two(rng: Random) -> Puzzle:
    grid = random_shapes(rng, *HARD_SHAPES)
    words = (rng.choice(COLOURS), rng.choice(SHAPES))
    quantity = f"the number of {_plural(words[0])} plus the number of {_plural(words[1])}"
    return Puzzle(grid, quantity, *_tally_ways(grid, words, (1, 1)))


def _difference(rng: Random) -> Puzzle:
    grid = random_shapes(rng, *NORMAL_SHAPES)
    words = tuple(rng.sample(rng.choice((COLOURS, SHAPES)), 2))
    quantity = f"the number of {_plural(words[0])} minus the number of {_plural(words[1])}"
    return Puzzle(grid, quantity, *_tally_ways(grid, words, (1, -1)))


def _difference_doubled(rng: Random) -> Puzzle:
    grid = random_shapes(rng, *HARD_SHAPES)
    words = (rng.choice(COLOURS), rng.choice(SHAPES))
    quantity = f"twice the number of {_plural(words[0])} minus the number of {_plural(words[1])}"
    return Puzzle(grid, quantity, *_tally_ways(grid, words, (2, -1)))


def _other_place(values: Values, rng: Random) -> Values:
    return (rng.choice([place for place in range(SIDE) if place != values[0]]),)


def _place_ways(grid: Grid, row: int, column: int) -> tuple[Way, Way]:
    """Looks a cell up along its row and along its column."""

    def explain_along(name: str, line: tuple[str, ...], at: int) -> Way:
        def explain(values: Values) -> Line:
            found = line[values[0]]
            return f"{name}: {', '.join(line)}. number {at + 1} is {found}.", found

        return Way((at,), explain, _other_place)

    return (
        explain_along(f"row {row + 1}", grid.row(row), column),
        explain_along(f"column {column + 1}", grid.column(column), row),
    )


def _place(rng: Random) -> Puzzle | None:
    grid = random_shapes(rng, *NORMAL_SHAPES)
    row, column = rng.randrange(SIDE), rng.randrange(SIDE)
    if grid.row(row)[column] == NONE:
        return None
    quantity = f"the object in row {row + 1}, column {column + 1}"
    return Puzzle(grid, quantity, *_place_ways(grid, row, column), rivals=OBJECTS)


def _neighbour(rng: Random) -> Puzzle | None:
    grid = random_shapes(rng, *HARD_SHAPES)
    landmark = rng.choice([cell for cell in grid.cells if cell != NONE])
    direction, (down, right) = rng.choice(list(_NEIGHBOURS.items()))
    row, column = divmod(grid.cells.index(landmark), SIDE)
    at = (row + down, column + right)
    if grid.cells.count(landmark) > 1 or not all(0 <= index < SIDE for index in at) or grid.row(at[0])[at[1]] == NONE:
        return None
    return Puzzle(grid, f"the object {direction} the {landmark}", *_place_ways(grid, *at), rivals=OBJECTS)


SHAPE_FAMILIES = (
    Family("count", "normal", numbers(0, 6), _count),
    Family("count", "hard", numbers(2, 12), _count_two),
    Family("count_difference", "normal", numbers(0, 6), _difference),
    Family("count_difference", "hard", numbers(0, 10), _difference_doubled),
    Family("place", "normal", OBJECTS, _place),
    Family("place", "hard", OBJECTS, _neighbour),
)
"""Counting, comparing and locating shapes, at both difficulties."""
