"""Reads plain numbers exactly: integers, decimals, fractions, mixed numbers, powers of ten, percents, number words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 60
"""Longer numerals are compared as text: no answer needs them, and integers of any size cost time."""
MAX_EXPONENT = 300
"""Largest power of ten that is expanded."""

_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
_WORD_VALUES = {word: Fraction(value) for value, word in enumerate(_WORDS.split())}

_UNSIGNED = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)"
_CURRENCY = re.compile(r"^(-?)\s?(?:US ?)?[$€£¥₹]\s?|^(?:USD|RMB|Rs\.?)\s")
_SPACED_FRACTION = re.compile(r"\\frac\s?\{?\s?(-?\d+(?:\.\d+)?)\s?\}\s?\{\s?(\d+(?:\.\d+)?)\s?\}")
_SHORT_FRACTION = re.compile(r"\\frac\s?(\d)\s?(?:(\d)|\{(\d+)\})")
_DECIMAL = re.compile(rf"([+-]?)\s?({_UNSIGNED})")
_FRACTION = re.compile(rf"([+-]?)\s?({_UNSIGNED})\s?/\s?({_UNSIGNED})")
_MIXED = re.compile(r"([+-]?)\s?(\d+)\s(\d+)\s?/\s?(\d+)")
_SCIENTIFIC = re.compile(
    rf"([+-]?)\s?({_UNSIGNED})\s?(?:[eE]|(?:\\times|\\cdot|\*|x)\s?10\s?\^)\s?(?:\{{\s?([+-]?\d+)\s?\}}|([+-]?\d+))"
)


@dataclass(frozen=True)
class Number:
    """A number as it was written."""

    value: Fraction
    """Its exact value; 50 for `50%`."""
    percent: bool = False
    """True when a percent sign followed it."""


def parse_number(text: str) -> Number | None:
    r"""Returns the number that `text` is, or None when it is not one plain number.

    Args:
        text: A plain answer (`latex.plain`) without a unit, e.g. `-1,234.5`, `\frac{3}{4}`, `1\frac{1}{2}`,
            `3 \times 10^{5}`, `50%`, `seven`.
    """
    text = _CURRENCY.sub(r"\1", text.strip())
    percent = text.endswith("%")
    value = _value(text.removesuffix("%").strip())
    return None if value is None else Number(value, percent)


def same_number(left: Number, right: Number) -> bool:
    """Returns whether two numbers are equal; a percent equals the bare number and the ratio that it stands for."""
    if left.percent == right.percent:
        return left.value == right.value
    percent, bare = (left, right) if left.percent else (right, left)
    return bare.value in (percent.value, percent.value / 100)


def _value(text: str) -> Fraction | None:
    text = text.removeprefix("(").removesuffix(")") if text[:1] == "(" and text.find(")") == len(text) - 1 else text
    if text.lower() in _WORD_VALUES:
        return _WORD_VALUES[text.lower()]
    text = _SHORT_FRACTION.sub(lambda match: f" {match[1]}/{match[2] or match[3]}", text)
    text = _SPACED_FRACTION.sub(r" \1/\2", text).strip().replace("- ", "-")
    if sum(map(str.isdigit, text)) > MAX_DIGITS:
        return None
    if match := _MIXED.fullmatch(text):
        fraction = _quotient(match[3], match[4])
        return None if fraction is None else _signed(match[1], int(match[2]) + fraction)
    if match := _FRACTION.fullmatch(text) or _DECIMAL.fullmatch(text):
        quotient = _quotient(match[2], match[3] if match.re is _FRACTION else "1")
        return None if quotient is None else _signed(match[1], quotient)
    match = _SCIENTIFIC.fullmatch(text)
    if match is None or abs(exponent := int(match[3] or match[4])) > MAX_EXPONENT:
        return None
    return _signed(match[1], _decimal(match[2]) * Fraction(10) ** exponent)


def _quotient(numerator: str, denominator: str) -> Fraction | None:
    divisor = _decimal(denominator)
    return _decimal(numerator) / divisor if divisor else None


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").removesuffix(".") or "0")


def _signed(sign: str, value: Fraction) -> Fraction:
    return -value if sign == "-" else value
