from __future__ import annotations

from random import Random

import numpy as np
import pytest
from PIL import Image

from lightning_r1v3.data.mini.domains import DOMAINS, Domain
from lightning_r1v3.data.mini.drawing import BASE, UNIT, draw
from lightning_r1v3.data.mini.glyphs import GLYPHS
from lightning_r1v3.data.mini.scenes import OBJECTS, Bars, Figure, Grid

MATHEMATICS = DOMAINS["mathematics"].look
every_domain = pytest.mark.parametrize("domain", DOMAINS.values(), ids=lambda domain: domain.name)


def painted(image: Image.Image, colour: str, domain: str = "mathematics") -> np.ndarray:
    return (np.asarray(image) == DOMAINS[domain].look.paint(colour)).all(axis=-1)


@every_domain
def test_each_object_is_drawn_in_its_cell_in_its_colour(domain: Domain) -> None:
    for place, word in enumerate(OBJECTS[:9]):
        cells = ["none"] * 9
        cells[place] = word
        rows, columns = np.nonzero(
            painted(draw(Grid(tuple(cells)), domain.look, Random(0)), word.split()[0], domain.name)
        )
        assert len(rows) >= 10
        assert {int(value) // 16 for value in rows} == {place // 3}
        assert {int(value) // 16 for value in columns} == {place % 3}


@every_domain
def test_the_four_shapes_look_different(domain: Domain) -> None:
    pictures = {
        draw(Grid((f"red {shape}", *["none"] * 8)), domain.look, Random(0)).tobytes()
        for shape in ("circle", "square", "triangle", "cross")
    }
    assert len(pictures) == 4


@every_domain
def test_colours_stand_apart_from_each_other_and_the_background(domain: Domain) -> None:
    colours = np.array([*domain.look.palette, domain.look.background], dtype=int)
    distances = np.abs(colours[:, None] - colours[None]).max(axis=-1) + 255 * np.eye(5, dtype=int)
    assert distances.min() >= 60


def test_a_bar_is_five_pixels_a_unit_high() -> None:
    image = draw(Bars({"red": 7, "blue": 2, "green": 9}), MATHEMATICS, Random(0))
    for colour, height in (("red", 7), ("blue", 2), ("green", 9)):
        assert np.nonzero(painted(image, colour).any(axis=1))[0].min() == BASE - height * UNIT


def test_a_rectangle_spans_its_units() -> None:
    mask = painted(draw(Figure("rectangle", "blue", 4, 6), MATHEMATICS, Random(0)), "blue")
    assert mask.any(axis=0).sum() == 4 * UNIT + 1
    assert mask.any(axis=1).sum() == 6 * UNIT + 1


def test_a_triangle_covers_about_half_of_its_box() -> None:
    mask = painted(draw(Figure("triangle", "blue", 8, 8), MATHEMATICS, Random(0)), "blue")
    assert 0.45 <= mask.sum() / (8 * UNIT + 1) ** 2 <= 0.6


def test_digits_differ_from_each_other() -> None:
    assert len({glyph.tobytes() for glyph in GLYPHS}) == 10
    assert all(glyph.shape == (14, 10) for glyph in GLYPHS)


def test_a_drawing_depends_on_its_arguments_only() -> None:
    scene = Grid(OBJECTS[:9])
    first, second = (draw(scene, DOMAINS["law"].look, Random(3)) for _ in range(2))
    assert first.tobytes() == second.tobytes()
