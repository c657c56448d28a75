from __future__ import annotations

import re
from random import Random

import pytest

from lightning_r1v3.data.mini.posing import FAMILIES, options, pose, split_of
from lightning_r1v3.data.mini.puzzles import Family, Puzzle
from lightning_r1v3.data.mini.scenes import Bars, Figure, Grid

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"{family.name}-{family.difficulty}")


def puzzles(family: Family, count: int = 40) -> list[Puzzle]:
    rng = Random(0)
    return [puzzle for _ in range(count) if (puzzle := family.propose(rng))]


def named(name: str, difficulty: str) -> Family:
    return next(family for family in FAMILIES if (family.name, family.difficulty) == (name, difficulty))


def test_there_are_at_least_six_families_at_two_difficulties() -> None:
    assert len({family.name for family in FAMILIES if family.difficulty == "normal"}) >= 6
    assert len({family.name for family in FAMILIES if family.difficulty == "hard"}) >= 6


@every_family
def test_both_ways_lead_to_the_same_answer(family: Family) -> None:
    assert all(puzzle.work.line()[1] == puzzle.check.line()[1] for puzzle in puzzles(family))


@every_family
def test_every_written_equation_holds(family: Family) -> None:
    for puzzle in puzzles(family):
        for text in (puzzle.work.line()[0], puzzle.check.line()[0]):
            for left, right in re.findall(r"((?:\d+ [-+x] )+\d+) = (\d+)", text):
                assert eval(left.replace("x", "*")) == int(right)  # the pattern admits numbers and - + x only


@every_family
def test_a_slip_ends_in_a_wrong_answer(family: Family) -> None:
    rng = Random(1)
    slips = [(puzzle.work.slip(rng), puzzle.work.line()) for puzzle in puzzles(family)]
    assert any(slip for slip, _ in slips)
    assert all(slip[1] != truth[1] for slip, truth in slips if slip)


@every_family
def test_posed_puzzles_belong_to_their_split_and_have_the_chosen_answer(family: Family) -> None:
    puzzle, answer = pose(family, "val", Random(2))
    assert split_of(puzzle.scene) == "val"
    assert puzzle.work.line()[1] == answer
    assert answer in family.answers


@every_family
def test_options_are_five_different_texts_with_the_answer(family: Family) -> None:
    rng = Random(3)
    puzzle, answer = pose(family, "train", rng)
    texts = options(family, puzzle, answer, rng)
    assert len(set(texts)) == 5
    assert answer in texts


def test_counts_match_the_picture() -> None:
    for puzzle in puzzles(named("count", "normal")):
        assert isinstance(puzzle.scene, Grid)
        word = next(
            w
            for w in ("red", "blue", "green", "yellow", "circle", "square", "triangle", "cross")
            if w in puzzle.quantity
        )
        assert puzzle.work.line()[1] == str(puzzle.scene.describe().count(word))


def test_bar_sums_match_the_picture() -> None:
    for puzzle in puzzles(named("bar_sum", "normal")):
        assert isinstance(puzzle.scene, Bars)
        heights = [height for colour, height in puzzle.scene.heights.items() if colour in puzzle.quantity.split()]
        assert puzzle.work.line()[1] == str(sum(heights))


def test_areas_match_the_picture() -> None:
    for puzzle in puzzles(named("area", "normal")):
        assert isinstance(puzzle.scene, Figure)
        area = puzzle.scene.width * puzzle.scene.height
        assert puzzle.work.line()[1] == str(area if puzzle.scene.shape == "rectangle" else area // 2)


def test_largest_minus_smallest_matches_the_picture() -> None:
    for puzzle in puzzles(named("digit_range", "normal")):
        assert isinstance(puzzle.scene, Grid)
        digits = [int(cell) for cell in puzzle.scene.cells if cell != "none"]
        assert puzzle.work.line()[1] == str(max(digits) - min(digits))


def test_answers_are_spread_evenly() -> None:
    family, rng = named("count", "normal"), Random(4)
    found = [pose(family, "train", rng)[1] for _ in range(700)]
    assert all(70 <= found.count(answer) <= 130 for answer in family.answers)


def test_the_right_option_is_no_more_often_in_the_middle() -> None:
    family, rng = named("bar_sum", "normal"), Random(5)
    ranks = []
    for _ in range(500):
        puzzle, answer = pose(family, "train", rng)
        ranks.append(sorted(map(int, options(family, puzzle, answer, rng))).index(int(answer)))
    assert all(70 <= ranks.count(rank) <= 130 for rank in range(5))
