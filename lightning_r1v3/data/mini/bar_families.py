"""Tasks on bar charts: differences, totals, order."""

from __future__ import annotations

from itertools import permutations
from random import Random

from lightning_r1v3.data.mini.looks import COLOURS
from lightning_r1v3.data.mini.puzzles import Family, Line, Puzzle, Values, Way, numbers, plus
from lightning_r1v3.data.mini.scenes import Bars, random_bars

_BAR_COUNTS = (3, 4)


def _any_bars(rng: Random) -> Bars:
    return random_bars(rng, rng.choice(_BAR_COUNTS))


def _difference(rng: Random) -> Puzzle | None:
    bars = _any_bars(rng)
    tall, short = rng.sample(list(bars.heights), 2)
    if bars.heights[tall] <= bars.heights[short]:
        return None

    def subtract(values: Values) -> Line:
        result = str(values[0] - values[1])
        return f"{tall} is {values[0]}, {short} is {values[1]}. {values[0]} - {values[1]} = {result}.", result

    def add_back(values: Values) -> Line:
        result = str(values[1] - values[0])
        return (
            f"{short} is {values[0]}, {tall} is {values[1]}. {values[0]} + {result} = {values[1]}, so {result}.",
            result,
        )

    heights = bars.heights[tall], bars.heights[short]
    quantity = f"the {tall} minus the {short} of the {{bars}}"
    return Puzzle(bars, quantity, Way(heights, subtract), Way(heights[::-1], add_back))


def _rest(rng: Random) -> Puzzle:
    bars = random_bars(rng, max(_BAR_COUNTS))
    left_out = rng.choice(list(bars.heights))
    at = list(bars.heights).index(left_out)
    others = tuple(height for colour, height in bars.heights.items() if colour != left_out)

    def subtract(values: Values) -> Line:
        total, result = sum(values), str(sum(values) - values[at])
        return f"all: {plus(values)}. {left_out} is {values[at]}. {total} - {values[at]} = {result}.", result

    def add_others(values: Values) -> Line:
        return f"the others: {plus(values)}.", str(sum(values))

    quantity = f"the sum of all {{bars}} minus the {left_out} one"
    return Puzzle(bars, quantity, Way(tuple(bars.heights.values()), subtract), Way(others, add_others))


def _sum_of_two(rng: Random) -> Puzzle:
    bars = _any_bars(rng)
    first, second = rng.sample(list(bars.heights), 2)

    def add(one: str, other: str) -> Way:
        def explain(values: Values) -> Line:
            return f"{one} is {values[0]}, {other} is {values[1]}. {plus(values)}.", str(sum(values))

        return Way((bars.heights[one], bars.heights[other]), explain)

    return Puzzle(bars, f"the sum of the {first} and {second} {{bars}}", add(first, second), add(second, first))


def _twice_tallest(rng: Random) -> Puzzle:
    bars = random_bars(rng, max(_BAR_COUNTS))
    heights = tuple(bars.heights.values())

    def pick(values: Values) -> Line:
        tallest, shortest = max(values), min(values)
        terms = (tallest, tallest, shortest)
        return f"tallest is {tallest}, shortest is {shortest}. {plus(terms)}.", str(sum(terms))

    def sort(values: Values) -> Line:
        ranked = sorted(values)
        terms = (ranked[0], ranked[-1], ranked[-1])
        return f"in order {', '.join(map(str, ranked))}. {plus(terms)}.", str(sum(terms))

    return Puzzle(bars, "twice the tallest plus the shortest of the {bars}", Way(heights, pick), Way(heights, sort))


def _swap_neighbours(values: Values, rng: Random) -> Values:
    at = rng.randrange(len(values) - 1)
    return (*values[:at], values[at + 1], values[at], *values[at + 2 :])


def _order(rng: Random, count: int) -> Puzzle | None:
    bars = random_bars(rng, count)
    colours, heights = list(bars.heights), list(bars.heights.values())
    if len(set(heights)) < count:
        return None
    ranks = tuple(sorted(range(count), key=heights.__getitem__))

    def listing(values: Values) -> str:
        return ", ".join(f"{colours[at]} {heights[at]}" for at in values)

    def upwards(values: Values) -> Line:
        result = ", ".join(colours[at] for at in values)
        return f"from the shortest: {listing(values)}. So {result}.", result

    def downwards(values: Values) -> Line:
        result = ", ".join(colours[at] for at in reversed(values))
        return f"from the tallest: {listing(values)}. So {result}.", result

    ways = Way(ranks, upwards, _swap_neighbours), Way(ranks[::-1], downwards, _swap_neighbours)
    rivals = tuple(map(", ".join, permutations(colours)))
    return Puzzle(bars, "the order of the {bars} from shortest to tallest", *ways, rivals=rivals)


def _order_of_three(rng: Random) -> Puzzle | None:
    return _order(rng, 3)


def _order_of_four(rng: Random) -> Puzzle | None:
    return _order(rng, 4)


def _orders(count: int) -> tuple[str, ...]:
    return tuple(map(", ".join, permutations(COLOURS, count)))


BAR_FAMILIES = (
    Family("bar_difference", "normal", numbers(1, 8), _difference),
    Family("bar_difference", "hard", numbers(6, 24), _rest),
    Family("bar_sum", "normal", numbers(3, 17), _sum_of_two),
    Family("bar_sum", "hard", numbers(9, 24), _twice_tallest),
    Family("bar_order", "normal", _orders(3), _order_of_three, choices_only=True),
    Family("bar_order", "hard", _orders(4), _order_of_four, choices_only=True),
)
"""Differences, sums and order of bars, at both difficulties."""
