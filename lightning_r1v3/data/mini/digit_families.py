"""Tasks on grids of digits: sums, and the largest against the smallest."""

from __future__ import annotations

from random import Random

from lightning_r1v3.data.mini.puzzles import Family, Line, Puzzle, Values, Way, numbers, plus
from lightning_r1v3.data.mini.scenes import NONE, SIDE, random_digits

NORMAL_DIGITS = (3, 7)
HARD_DIGITS = (5, 7)


def _read(line: tuple[str, ...]) -> Values:
    return tuple(int(word) for word in line if word != NONE)


def _filled(lines: tuple[tuple[str, ...], ...]) -> tuple[Values, ...]:
    """Digits of those lines that have any."""
    return tuple(digits for line in lines if (digits := _read(line)))


def _running_sum(values: Values) -> Line:
    """Adds one value at a time, e.g. `3 + 7 = 10, 10 + 1 = 11`."""
    total, steps = values[0], []
    for value in values[1:]:
        steps.append(f"{total} + {value} = {total + value}")
        total += value
    return ", ".join(steps) + ".", str(total)


def _line_sum(rng: Random) -> Puzzle | None:
    grid = random_digits(rng, *NORMAL_DIGITS)
    index, kind = rng.randrange(SIDE), rng.choice(("row", "column"))
    digits = _read(grid.row(index) if kind == "row" else grid.column(index))
    if len(digits) <= 1:
        return None
    name = f"{kind} {index + 1}"

    def forwards(values: Values) -> Line:
        text, result = _running_sum(values)
        return f"{name}: {text}", result

    def backwards(values: Values) -> Line:
        text, result = _running_sum(values)
        return f"{name} from the end: {text}", result

    return Puzzle(grid, f"the sum of the {{numbers}} in {name}", Way(digits, forwards), Way(digits[::-1], backwards))


def _total_way(name: str, lines: tuple[Values, ...]) -> Way:
    def explain(values: Values) -> Line:
        rest, parts = list(values), []
        for line in lines:
            parts.append(tuple(rest[: len(line)]))
            del rest[: len(line)]
        sums = tuple(sum(part) for part in parts)
        return f"by {name}: {', '.join(map(plus, parts))}. together {plus(sums)}.", str(sum(sums))

    return Way(tuple(digit for line in lines for digit in line), explain)


def _total(rng: Random) -> Puzzle:
    grid = random_digits(rng, *HARD_DIGITS)
    ways = _total_way("rows", _filled(grid.rows())), _total_way("columns", _filled(grid.columns()))
    return Puzzle(grid, "the sum of all {numbers}", *ways)


def _extremes_way(name: str, lines: tuple[Values, ...], largest_count: int) -> Way:
    """Largest and smallest digit of each line, then of all; the largest counts once or twice."""
    count = len(lines)

    def explain(values: Values) -> Line:
        largest, smallest = max(values[:count]), min(values[count:])
        result = str(largest * largest_count - smallest)
        maxima, minima = (", ".join(map(str, half)) for half in (values[:count], values[count:]))
        found = f"by {name}: largest {maxima}, so {largest}. smallest {minima}, so {smallest}."
        return f"{found} {' + '.join([str(largest)] * largest_count)} - {smallest} = {result}.", result

    return Way((*(max(line) for line in lines), *(min(line) for line in lines)), explain)


def _extremes(rng: Random, bounds: tuple[int, int], largest_count: int, quantity: str) -> Puzzle:
    grid = random_digits(rng, *bounds)
    ways = (
        _extremes_way("rows", _filled(grid.rows()), largest_count),
        _extremes_way("columns", _filled(grid.columns()), largest_count),
    )
    return Puzzle(grid, quantity, *ways)


def _range(rng: Random) -> Puzzle:
    return _extremes(rng, NORMAL_DIGITS, 1, "the largest minus the smallest of the {numbers}")


def _twice_largest(rng: Random) -> Puzzle:
    return _extremes(rng, HARD_DIGITS, 2, "twice the largest minus the smallest of the {numbers}")


DIGIT_FAMILIES = (
    Family("digit_sum", "normal", numbers(2, 20), _line_sum),
    Family("digit_sum", "hard", numbers(15, 45), _total),
    Family("digit_range", "normal", numbers(2, 9), _range),
    Family("digit_range", "hard", numbers(8, 18), _twice_largest),
)
"""Sums and extremes of digits, at both difficulties."""
