"""Takes written equations apart: `x = 5` states 5, `3 + 4 = 7` states 7, `5 = 7` states nothing."""

from __future__ import annotations

import re

from lightning_r1v3.rewards.latex import trim
from lightning_r1v3.rewards.numeric import parse_number, same_number
from lightning_r1v3.rewards.units import split_unit

_NAME = re.compile(r"^[A-Za-z\\∠△ ][A-Za-z\\∠△_{}' 0-9]{0,30}(?:\([A-Za-z]\))?\s?(?:=|≈)(?![=<>])")


def without_name(text: str) -> str:
    """Returns `5` for `x = 5`, `BF = 5` and `f(x) = 5`; an equation in several unknowns stays as it is."""
    match = _NAME.match(text)
    return trim(text[match.end() :]) if match and "=" not in text[match.end() :] else text


def equation_end(text: str) -> str | None:
    """Returns what a chain of equations ends in, or None when its plain numbers contradict its end."""
    *steps, end = (trim(step) for step in text.split("="))
    numbers = [number for step in steps if (number := parse_number(step))]
    end_number = parse_number(trim(split_unit(end).magnitude))
    if numbers and (end_number is None or any(not same_number(number, end_number) for number in numbers)):
        return None
    return end
