"""Takes the unit off a quantity and converts it, so that 500 cm is 5 m and not 5 cm."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_FACTORS: dict[str, dict[str, Fraction]] = {
    "length": {
        "mm millimeter millimeters millimetre millimetres 毫米": Fraction(1, 1000),
        "cm centimeter centimeters centimetre centimetres 厘米": Fraction(1, 100),
        "dm decimeter decimeters decimetre decimetres 分米": Fraction(1, 10),
        "m meter meters metre metres 米": Fraction(1),
        "km kilometer kilometers kilometre kilometres 千米 公里": Fraction(1000),
        "in inch inches": Fraction(254, 10_000),
        "ft foot feet": Fraction(3048, 10_000),
        "yd yard yards": Fraction(9144, 10_000),
        "mi mile miles": Fraction(1_609_344, 1000),
    },
    "mass": {
        "mg milligram milligrams": Fraction(1, 1000),
        "g gram grams 克": Fraction(1),
        "kg kilogram kilograms 千克 公斤": Fraction(1000),
        "lb lbs pound pounds": Fraction(45_359_237, 100_000),
        "oz ounce ounces": Fraction(28_349_523_125, 10**9),
    },
    "time": {
        "s sec secs second seconds 秒": Fraction(1),
        "min mins minute minutes 分钟": Fraction(60),
        "h hr hrs hour hours 小时": Fraction(3600),
        "d day days 天": Fraction(86_400),
        "wk week weeks 周": Fraction(604_800),
    },
    "volume": {"ml mL milliliter milliliters 毫升": Fraction(1, 1000), "l L liter liters litre litres 升": Fraction(1)},
    "money": {"cent cents": Fraction(1, 100), "dollar dollars USD 元": Fraction(1)},
    "angle": {"°": Fraction(1)},
    "temperature": {"°C": Fraction(1)},
    "fahrenheit": {"°F": Fraction(1)},
    "power": {"W watt watts": Fraction(1), "kW": Fraction(1000)},
}
_UNITS = {
    name: (kind, factor)
    for kind, table in _FACTORS.items()
    for names, factor in table.items()
    for name in names.split()
}

_NAME = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_TRAILING_UNIT = re.compile(
    rf"(?P<glue>[\d)}}%]\s?|\\pi\s?|\s)(?P<square>(?:square|sq\.?|平方)\s?)?(?P<cube>(?:cubic|cu\.?|立方)\s?)?"
    rf"(?P<name>{_NAME})\.?(?:\s?\^?\s?\{{?\s?(?P<power>[23])\s?\}}?)?(?P<squared> squared)?$"
)
FOLLOWING_UNIT = rf"(?:\s?(?:square |cubic )?(?!in [a-z])(?:{_NAME})(?![A-Za-z])(?:\s?\^\s?\{{?[23]\}}?)?)?"
"""Pattern of the unit, if any, behind a numeral in prose; `in` before a word is the preposition."""
_WORDS_AFTER_NUMBER = re.compile(r"(.{0,60}\d[)}%]?)(\s?)([A-Za-z一-鿿'/-]+(?: [A-Za-z一-鿿'/-]+){0,4})")


@dataclass(frozen=True)
class Quantity:
    """An answer divided into its magnitude and its unit."""

    magnitude: str
    """The part before the unit."""
    kind: str = ""
    """Dimension with its power, e.g. `length^2`; empty without a known unit."""
    factor: Fraction = Fraction(1)
    """Size of the unit in its dimension's reference unit."""
    certain: bool = True
    """False for one letter glued to the magnitude (`5m`), which may as well be a variable."""


def split_unit(text: str) -> Quantity:
    """Returns a plain answer (`latex.plain`) as magnitude and known unit; without one, the whole is magnitude."""
    match = _TRAILING_UNIT.search(text[-40:])
    if match is None:
        return Quantity(text)
    power = 2 if match["square"] or match["squared"] else 3 if match["cube"] else int(match["power"] or 1)
    kind, factor = _UNITS[match["name"]]
    magnitude = (text[:-40] + text[-40:][: match.end("glue")]).strip()
    certain = len(match["name"]) > 1 or match["glue"].endswith(" ") or not match["name"].isascii()
    return Quantity(magnitude, f"{kind}^{power}", factor**power, certain)


def without_noun(text: str) -> str:
    """Returns `12` for `12 apples` and `3 个`: a number without the words that say what was counted."""
    match = _WORDS_AFTER_NUMBER.fullmatch(text)
    is_word = match is not None and (match[2] or len(match[3]) > 1 or not match[3].isascii())
    return match[1] if match is not None and is_word else text
