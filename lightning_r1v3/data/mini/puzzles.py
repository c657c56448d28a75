"""What a task family produces: a scene, what is asked of it, and two independent ways to the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from lightning_r1v3.data.mini.scenes import Scene

Values = tuple[int, ...]
Line = tuple[str, str]
"""A line of reasoning and the result it ends in."""


def off_by_one(values: Values, rng: Random) -> Values:
    """Returns `values` with one of them wrong by one: the slip of a reader who miscounts."""
    index = rng.randrange(len(values))
    return (*values[:index], values[index] + rng.choice((-1, 1)), *values[index + 1 :])


@dataclass(frozen=True)
class Way:
    """One way to the answer: what was read, and the line of reasoning that follows from it."""

    values: Values
    """What is read off the scene."""
    explain: Callable[[Values], Line]
    """The reasoning for any such reading, right or wrong."""
    misread: Callable[[Values, Random], Values] = off_by_one
    """A plausible wrong reading."""

    def line(self) -> Line:
        """Returns the correct reasoning and its result."""
        return self.explain(self.values)

    def slip(self, rng: Random, attempts: int = 20) -> Line | None:
        """Returns reasoning from a wrong reading with a wrong result, or None if no misreading changes the result."""
        _, truth = self.line()
        for _ in range(attempts):
            values = self.misread(self.values, rng)
            if min(values) < 0:
                continue
            text, result = self.explain(values)
            if result != truth:
                return text, result
        return None


@dataclass(frozen=True)
class Puzzle:
    """A scene with a question about it."""

    scene: Scene
    """What the picture shows."""
    quantity: str
    """Noun phrase of what is wanted; `{items}`, `{numbers}`, `{bars}` and `{figure}` take the domain's nouns."""
    work: Way
    """The first way to the answer."""
    check: Way
    """A second way that does not reuse the first one's results."""
    rivals: tuple[str, ...] = ()
    """Texts that wrong options are drawn from; empty: the family's other answers near the right one."""


@dataclass(frozen=True)
class Family:
    """A kind of task at one difficulty."""

    name: str
    """Name of the kind, the same for both difficulties."""
    difficulty: str
    """`normal` or `hard`."""
    answers: tuple[str, ...]
    """All answers, in order; problems are spread uniformly over them."""
    propose: Callable[[Random], Puzzle | None]
    """Draws any puzzle of the family; None when the draw does not pose a proper question."""
    choices_only: bool = False
    """Always ask it as multiple-choice, because its answer is a phrase without a single spelling."""


def numbers(first: int, last: int, step: int = 1) -> tuple[str, ...]:
    """Returns the integers from `first` to `last`, both included, as texts."""
    return tuple(str(number) for number in range(first, last + 1, step))


def plus(values: Values) -> str:
    """Returns the written sum of `values`, e.g. `1 + 0 + 2 = 3`; a single value stands alone."""
    terms = " + ".join(map(str, values))
    return f"{terms} = {sum(values)}" if len(values) > 1 else terms
