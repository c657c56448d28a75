"""Poses a puzzle with a given answer in a given split, and sets wrong options beside the right one.

Which split a picture belongs to is decided by a hash of what it shows, so that train, val and test never share a
picture, whatever seeds they are made from.
"""

from __future__ import annotations

import hashlib
from random import Random
from typing import Literal

from lightning_r1v3.data.mini.bar_families import BAR_FAMILIES
from lightning_r1v3.data.mini.digit_families import DIGIT_FAMILIES
from lightning_r1v3.data.mini.figure_families import FIGURE_FAMILIES
from lightning_r1v3.data.mini.puzzles import Family, Puzzle
from lightning_r1v3.data.mini.scenes import Scene
from lightning_r1v3.data.mini.shape_families import SHAPE_FAMILIES

Split = Literal["train", "val", "test"]

FAMILIES = SHAPE_FAMILIES + DIGIT_FAMILIES + BAR_FAMILIES + FIGURE_FAMILIES
"""Ten kinds of tasks, each at both difficulties."""
LETTERS = "ABCDE"
"""Letters of the five options."""

_BUCKETS = 100
_FIRST_VAL_BUCKET, _FIRST_TEST_BUCKET = 80, 90
# Some answers have no picture in a small split (few rectangles have a given area): another answer is tried then.
_TARGETS, _PROPOSALS = 50, 4000
_NEARBY = 9


def split_of(scene: Scene) -> Split:
    """Returns the split that a picture belongs to: 80 % train, 10 % val, 10 % test."""
    bucket = int(hashlib.sha256(scene.describe().encode()).hexdigest(), 16) % _BUCKETS
    if bucket < _FIRST_VAL_BUCKET:
        return "train"
    return "val" if bucket < _FIRST_TEST_BUCKET else "test"


def pose(family: Family, split: Split, rng: Random) -> tuple[Puzzle, str]:
    """Returns a puzzle of the split and its answer; the answer is chosen first, uniformly, then a scene that has it."""
    for _ in range(_TARGETS):
        target = rng.choice(family.answers)
        for _ in range(_PROPOSALS):
            puzzle = family.propose(rng)
            if puzzle and puzzle.work.line()[1] == target and split_of(puzzle.scene) == split:
                return puzzle, target
    raise AssertionError(f"{family.name} ({family.difficulty}) poses no puzzle in split {split}")


def options(family: Family, puzzle: Puzzle, answer: str, rng: Random) -> tuple[str, ...]:
    """Returns five different texts in random order, one of them the answer.

    Numeric rivals come from a window of nine neighbouring answers at a random offset around the right one, on the ring
    of the family's answers: then the right option is the smallest, the middle or the largest equally often, also for
    answers at the ends.
    """
    rivals = puzzle.rivals
    if not rivals:
        width = min(_NEARBY, len(family.answers))
        start = family.answers.index(answer) - rng.randrange(width)
        rivals = tuple(family.answers[(start + step) % len(family.answers)] for step in range(width))
    texts = [answer, *rng.sample([rival for rival in rivals if rival != answer], len(LETTERS) - 1)]
    rng.shuffle(texts)
    return tuple(texts)
