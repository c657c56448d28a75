"""Draws a scene in a domain's look on 48 x 48 pixels.

A cell of a grid is 16 x 16 pixels: exactly one image token of a ViT with 8-pixel patches and a pixel shuffle of 0.5.
"""

from __future__ import annotations

from functools import cache
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from lightning_r1v3.data.mini.glyphs import GLYPHS
from lightning_r1v3.data.mini.looks import Look
from lightning_r1v3.data.mini.scenes import MAX_UNITS, NONE, SIDE, Bars, Figure, Grid, Scene

CANVAS = 48
"""Width and height of every picture in pixels."""
CELL = CANVAS // SIDE
UNIT = 5
"""Pixels per unit of bars and figures; nine units leave a margin of 3 pixels."""
BASE = CANVAS - 2
"""y of the base line; x of the left border of the unit grid is `BASE - 9 * UNIT`."""
_ORIGIN = BASE - MAX_UNITS * UNIT


def draw(scene: Scene, look: Look, rng: Random) -> Image.Image:
    """Returns the RGB picture of `scene`.

    `rng` moves and resizes things by a pixel or two, which never changes what is there; a figure may lie anywhere on
    its unit grid.
    """
    image = _background(look).copy()
    pen = ImageDraw.Draw(image)
    if isinstance(scene, Grid):
        _draw_grid(pen, scene, look, rng)
    elif isinstance(scene, Bars):
        _draw_bars(pen, scene, look, rng)
    else:
        _draw_figure(pen, scene, look, rng)
    for _ in range(look.speckles):
        pen.point((rng.randrange(CANVAS), rng.randrange(CANVAS)), fill=look.ink)
    return image


@cache
def _background(look: Look) -> Image.Image:
    y, x = np.mgrid[:CANVAS, :CANVAS]
    patterns = {
        "plain": np.zeros((CANVAS, CANVAS), dtype=bool),
        "dots": (x % 4 == 0) & (y % 4 == 0),
        "stripes": (x + y) % 6 == 0,
        "checks": (x // 4 + y // 4) % 2 == 0,
    }
    pixels = np.where(patterns[look.texture][..., None], look.shade, look.background)
    return Image.fromarray(pixels.astype(np.uint8))


def _draw_grid(pen: ImageDraw.ImageDraw, grid: Grid, look: Look, rng: Random) -> None:
    for index, word in enumerate(grid.cells):
        if word == NONE:
            continue
        row, column = divmod(index, SIDE)
        x, y = column * CELL, row * CELL
        if word.isdigit():
            glyph = Image.fromarray(GLYPHS[int(word)])
            pen.bitmap((x + rng.randint(2, 4), y + rng.randint(0, 2)), glyph, fill=look.ink)
        else:
            centre = (x + CELL // 2 + rng.randint(-1, 1), y + CELL // 2 + rng.randint(-1, 1))
            _draw_shape(pen, word, look, centre, rng.randint(5, 6))


def _draw_shape(pen: ImageDraw.ImageDraw, word: str, look: Look, centre: tuple[int, int], radius: int) -> None:
    colour, shape = word.split()
    paint = look.paint(colour)
    fill = paint if look.filled else None
    (x, y), r = centre, radius
    box = (x - r, y - r, x + r, y + r)
    if shape == "circle":
        pen.ellipse(box, fill=fill, outline=paint, width=look.stroke)
    elif shape == "square":
        pen.rectangle(box, fill=fill, outline=paint, width=look.stroke)
    elif shape == "triangle":
        pen.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=fill, outline=paint, width=look.stroke)
    else:
        arm = 2 if look.filled else look.stroke // 2
        pen.rectangle((x - arm, y - r, x + arm, y + r), fill=paint)
        pen.rectangle((x - r, y - arm, x + r, y + arm), fill=paint)


def _draw_bars(pen: ImageDraw.ImageDraw, bars: Bars, look: Look, rng: Random) -> None:
    for unit in range(1, MAX_UNITS + 1):
        pen.line((0, BASE - unit * UNIT, CANVAS, BASE - unit * UNIT), fill=look.shade)
    pitch = CANVAS // len(bars.heights)
    for index, (colour, height) in enumerate(bars.heights.items()):
        left = index * pitch + rng.randint(1, 3)
        box = (left, BASE - height * UNIT, left + pitch - rng.randint(5, 6), BASE)
        paint = look.paint(colour)
        pen.rectangle(box, fill=paint if look.filled else None, outline=paint, width=look.stroke)
    pen.line((0, BASE, CANVAS, BASE), fill=look.ink)


def _draw_figure(pen: ImageDraw.ImageDraw, figure: Figure, look: Look, rng: Random) -> None:
    for unit in range(MAX_UNITS + 1):
        at = _ORIGIN + unit * UNIT
        pen.line((at, _ORIGIN, at, BASE), fill=look.shade)
        pen.line((_ORIGIN, at, BASE, at), fill=look.shade)
    left = _ORIGIN + UNIT * rng.randint(0, MAX_UNITS - figure.width)
    top = _ORIGIN + UNIT * rng.randint(0, MAX_UNITS - figure.height)
    right, bottom = left + UNIT * figure.width, top + UNIT * figure.height
    paint = look.paint(figure.colour)
    fill = paint if look.filled else None
    if figure.shape == "rectangle":
        pen.rectangle((left, top, right, bottom), fill=fill, outline=paint, width=look.stroke)
    else:
        pen.polygon([(left, top), (left, bottom), (right, bottom)], fill=fill, outline=paint, width=look.stroke)
