"""Tasks on rectangles and right triangles: perimeter, area and what combines them."""

from __future__ import annotations

from random import Random

from lightning_r1v3.data.mini.puzzles import Family, Line, Puzzle, Values, Way, numbers, off_by_one
from lightning_r1v3.data.mini.scenes import MAX_UNITS, random_figure

_SIDES = range(2, MAX_UNITS + 1)
_LARGEST = 60
"""Larger results of combined questions come from one pair of sides only, which makes them easy to recognise."""


def _doubled(values: Values) -> tuple[str, int]:
    half = sum(values)
    return f"{values[0]} + {values[1]} = {half}, {half} + {half} = {2 * half}.", 2 * half


def _around(values: Values) -> tuple[str, int]:
    width, height = values
    corner = width + height
    steps = f"{height} + {width} = {corner}, {corner} + {height} = {corner + height}"
    return f"around: {steps}, {corner + height} + {width} = {2 * corner}.", 2 * corner


def _product(values: Values) -> tuple[str, int]:
    return f"{values[0]} x {values[1]} = {values[0] * values[1]}.", values[0] * values[1]


def _by_rows(values: Values) -> tuple[str, int]:
    """Counts the unit squares row by row, e.g. `3 rows of 4: 4, 8, 12`."""
    width, height = values
    return f"{height} rows of {width}: {', '.join(str(width * row) for row in range(1, height + 1))}.", width * height


def _perimeter(rng: Random) -> Puzzle:
    figure = random_figure(rng, "rectangle")

    def double(values: Values) -> Line:
        text, result = _doubled(values)
        return text, str(result)

    def walk(values: Values) -> Line:
        text, result = _around(values)
        return text, str(result)

    sides = figure.width, figure.height
    return Puzzle(figure, "the perimeter of the {figure}", Way(sides, double), Way(sides, walk))


def _misread_leg(values: Values, rng: Random) -> Values:
    """Returns legs with one wrong by one, or `values` where that would leave half a square unit."""
    misread = off_by_one(values, rng)
    return values if misread[0] * misread[1] % 2 else misread


def _area(rng: Random) -> Puzzle | None:
    figure = random_figure(rng, rng.choice(("rectangle", "triangle")))
    sides = figure.width, figure.height
    halved = figure.shape == "triangle"
    if halved and figure.width * figure.height % 2:
        return None

    def finish(text: str, area: int) -> Line:
        return (f"{text} half of {area} is {area // 2}.", str(area // 2)) if halved else (text, str(area))

    def multiply(values: Values) -> Line:
        return finish(*_product(values))

    def add_rows(values: Values) -> Line:
        return finish(*_by_rows(values))

    misread = _misread_leg if halved else off_by_one
    return Puzzle(figure, "the area of the {figure}", Way(sides, multiply, misread), Way(sides, add_rows, misread))


def _combined(rng: Random, sign: int, quantity: str) -> Puzzle | None:
    """Area plus (sign 1) or minus (sign -1) perimeter of a rectangle."""
    figure = random_figure(rng, "rectangle")
    symbol = "+" if sign > 0 else "-"

    def finish(area: tuple[str, int], perimeter: tuple[str, int]) -> Line:
        result = area[1] + sign * perimeter[1]
        return f"{area[0]} {perimeter[0]} {area[1]} {symbol} {perimeter[1]} = {result}.", str(result)

    def multiply(values: Values) -> Line:
        return finish(_product(values), _doubled(values))

    def add_rows(values: Values) -> Line:
        return finish(_by_rows(values), _around(values))

    sides = figure.width, figure.height
    return Puzzle(figure, quantity, Way(sides, multiply), Way(sides, add_rows))


def _area_plus_perimeter(rng: Random) -> Puzzle | None:
    return _combined(rng, 1, "the area plus the perimeter of the {figure}")


def _area_minus_perimeter(rng: Random) -> Puzzle | None:
    return _combined(rng, -1, "the area minus the perimeter of the {figure}")


def _combinations(sign: int) -> tuple[str, ...]:
    """All results of `_combined` that are not negative and at most `_LARGEST`."""
    results = {width * height + sign * 2 * (width + height) for width in _SIDES for height in _SIDES}
    return tuple(str(result) for result in sorted(results) if 0 <= result <= _LARGEST)


_PRODUCTS = {width * height for width in _SIDES for height in _SIDES}

FIGURE_FAMILIES = (
    Family("perimeter", "normal", numbers(8, 36, 2), _perimeter),
    Family("perimeter", "hard", _combinations(1), _area_plus_perimeter),
    Family("area", "normal", tuple(map(str, sorted(_PRODUCTS))), _area),
    Family("area", "hard", _combinations(-1), _area_minus_perimeter),
)
"""Perimeters and areas in units and square units, at both difficulties."""
