from __future__ import annotations

from random import Random

import pytest

from lightning_r1v3.data.mini.scenes import Bars, Figure, Grid, random_digits, random_shapes

GRID = Grid(("1", "none", "3", "none", "5", "none", "7", "8", "none"))


def test_grid_is_transcribed_row_by_row() -> None:
    assert GRID.describe() == "row 1: 1, none, 3; row 2: none, 5, none; row 3: 7, 8, none"


def test_columns_read_downwards() -> None:
    assert GRID.columns() == (("1", "none", "7"), ("none", "5", "8"), ("3", "none", "none"))


def test_bars_are_transcribed_from_the_left() -> None:
    assert Bars({"red": 3, "blue": 9}).describe() == "bars: red 3, blue 9"


def test_figure_is_transcribed_with_its_sides() -> None:
    assert Figure("triangle", "green", 4, 6).describe() == "green triangle: width 4, height 6"


@pytest.mark.parametrize("draw", [random_shapes, random_digits])
def test_grids_hold_as_many_things_as_asked(draw: object) -> None:
    for seed in range(50):
        filled = [cell for cell in draw(Random(seed), 3, 5).cells if cell != "none"]  # type: ignore[operator]
        assert 3 <= len(filled) <= 5
