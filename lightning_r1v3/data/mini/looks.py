"""How each domain draws its pictures: a table of 20 rows.

The four sciences of the cold start look alike (light, filled, clean). The other 16 drift away from them row by row:
darker, outlined, textured, speckled, in other shades. That distance is what connector tuning has to bridge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Colour = tuple[int, int, int]
Texture = Literal["plain", "dots", "stripes", "checks"]

COLOURS = ("red", "blue", "green", "yellow")
"""Names of the colours, in the order of every palette."""

BRIGHT = ((220, 30, 30), (30, 70, 220), (20, 150, 50), (235, 185, 0))
VIVID = ((235, 50, 40), (50, 90, 235), (30, 165, 70), (240, 195, 20))
DEEP = ((170, 20, 35), (20, 40, 150), (10, 100, 40), (190, 140, 0))
MUTED = ((190, 75, 70), (75, 100, 180), (75, 140, 85), (205, 165, 55))
LIGHT = ((245, 90, 85), (95, 145, 250), (85, 205, 110), (250, 220, 80))
NEON = ((255, 55, 75), (60, 130, 255), (40, 230, 90), (255, 240, 40))
PALE = ((250, 130, 130), (130, 170, 255), (140, 230, 150), (255, 240, 140))


@dataclass(frozen=True)
class Look:
    """A domain's colours and manner of drawing."""

    background: Colour
    """RGB, each 0 to 255."""
    ink: Colour
    """RGB of digits, base lines and speckles."""
    shade: Colour
    """RGB of unit ticks and of the background's texture, close to the background."""
    palette: tuple[Colour, Colour, Colour, Colour]
    """RGB of red, blue, green and yellow, as in `COLOURS`."""
    filled: bool = True
    """Shapes and bars are filled, or drawn as outlines."""
    stroke: int = 2
    """Width of outlines in pixels, 1 to 3."""
    texture: Texture = "plain"
    """Pattern of the background."""
    speckles: int = 0
    """Number of stray pixels."""

    def paint(self, colour: str) -> Colour:
        """Returns the RGB in which the named colour is drawn."""
        return self.palette[COLOURS.index(colour)]


LOOKS: dict[str, Look] = {
    "mathematics": Look((255, 255, 255), (20, 20, 20), (225, 225, 225), BRIGHT),
    "physics": Look((246, 249, 255), (20, 25, 45), (218, 224, 236), BRIGHT),
    "chemistry": Look((255, 251, 240), (40, 25, 10), (232, 226, 210), VIVID),
    "biology": Look((244, 255, 246), (15, 40, 20), (215, 232, 218), VIVID),
    "engineering": Look((232, 238, 246), (15, 30, 70), (200, 210, 226), DEEP),
    "agriculture": Look((238, 228, 205), (70, 45, 15), (216, 203, 175), DEEP),
    "environmental_science": Look((214, 232, 226), (10, 55, 50), (190, 212, 205), DEEP, texture="dots"),
    "computer_science": Look((18, 22, 30), (190, 255, 200), (48, 56, 70), NEON),
    "medicine": Look((40, 44, 48), (235, 240, 245), (68, 74, 80), LIGHT, speckles=12),
    "pharmacy": Look((226, 218, 240), (60, 20, 90), (206, 196, 224), MUTED, texture="stripes"),
    "music": Look((250, 244, 225), (30, 20, 20), (222, 214, 190), DEEP, filled=False),
    "literature": Look((236, 220, 190), (80, 40, 20), (215, 198, 165), DEEP, filled=False, texture="stripes"),
    "philosophy": Look((205, 205, 212), (40, 40, 60), (186, 186, 194), DEEP, filled=False, stroke=3),
    "history": Look((200, 176, 136), (70, 35, 10), (182, 157, 117), DEEP, texture="dots", speckles=16),
    "economics": Look((24, 44, 74), (245, 235, 200), (44, 66, 98), LIGHT, texture="stripes"),
    "psychology": Look((88, 60, 104), (250, 240, 255), (106, 78, 122), PALE, texture="checks"),
    "political_science": Look((28, 28, 28), (240, 240, 240), (58, 58, 58), NEON, filled=False),
    "sociology": Look((20, 56, 52), (230, 250, 240), (38, 78, 73), PALE, filled=False, texture="dots"),
    "education": Look((30, 70, 45), (250, 250, 235), (52, 92, 66), PALE, filled=False, stroke=1, speckles=24),
    "law": Look((64, 30, 30), (255, 235, 205), (84, 48, 46), PALE, filled=False, texture="checks", speckles=24),
}
"""The look of each domain by its name, from the nearest to the cold start's to the furthest."""
