"""Reads the one value that a sentence of prose states: `the area is about 12 cm` states 12 cm."""

from __future__ import annotations

import re

from lightning_r1v3.rewards.equation import equation_end
from lightning_r1v3.rewards.latex import plain, trim
from lightning_r1v3.rewards.numeric import parse_number
from lightning_r1v3.rewards.units import FOLLOWING_UNIT

_MATH = re.compile(r"\$\$?([^$\n]{1,200})\$\$?|\\\(([^\n]{1,200}?)\\\)|\\\[([^\n]{1,200}?)\\\]")
_BOLD = re.compile(r"(?<![\w)])\*\*([^*\n]{1,120})\*\*(?![\w(])")
_EXPLANATION = re.compile(
    r"[,;]?\s(?:because|since|as|so|which|where|when|if|for|after|due to|given|based on)\s"
    r"|\s\(|, (?!or\b|and\b)(?=[a-z])|\s-\s"
)
_FILLER = re.compile(
    r"^(?:(?:approximately|about|around|roughly|nearly|exactly|simply|just|equal to|equals|only|thus|therefore|that"
    r"|there (?:is|are|were|will be)|it is|it's|is|are|约为?|大约|等于|为|是|:|=|≈)(?:\s|:|(?=[\d$\\])|$)\s?){1,4}",
    re.IGNORECASE,
)
_COPULA = re.compile(r"\b(?:is|are|was|were|be|equals?|equal to|becomes?|gives?|get|has|have)\b|[=≈]|等于|为|是|得")
_NUMERAL = re.compile(r"(?<![\w.])-?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s?/\s?\d+)?(?:\s?%)?" + FOLLOWING_UNIT)
_NUMBER_WORD = re.compile(
    r"(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    r"|eighteen|nineteen|twenty)\b",
    re.IGNORECASE,
)
_EXISTENTIAL = re.compile(
    rf"\bthere (?:is|are|was|were|will be) (?:only |exactly |about )?(\d+|{_NUMBER_WORD.pattern})\b", re.IGNORECASE
)
_HEDGE = re.compile(r"\b(?:or|maybe|perhaps|possibly|alternatively)\b[^\d$\\]{0,20}[\d$\\]|或")
_ALTERNATIVE = re.compile(r"\b(?:or|either|and)\b|或|和")


def readings(statement: str) -> list[str]:
    """Returns what a statement may be meant to say, from the whole of it to the single value in it.

    The whole; the whole without filler at its start and explanation at its end; the value that it ends in. The last
    exists only when it is unambiguous, so a statement that hedges (`3 or 4`) reads as a whole only.
    """
    found = [statement]
    if not _HEDGE.search(statement):
        stated = _FILLER.sub("", _EXPLANATION.split(statement, maxsplit=1)[0])
        found += [stated, single_value(stated) or single_value(statement) or ""]
    return list(dict.fromkeys(text for reading in found if (text := trim(reading))))


def single_value(sentence: str) -> str | None:
    """Returns the one mathematical value that a sentence states, or None when it states none or several."""
    if equation_end(plain(sentence)) is None:
        return None
    for pattern in (_BOLD, _MATH):
        marked = [next(filter(None, match.groups()), "").strip() for match in pattern.finditer(sentence)]
        if marked and not (len(set(marked)) > 1 and _ALTERNATIVE.search(sentence)):
            last = marked[-1].rpartition("=")[2] if "=" in marked[-1] else marked[-1]
            if _is_value(last):
                return last
    sentence = plain(sentence)
    tail = _tail(sentence)
    if _is_value(tail) and not _ALTERNATIVE.search(tail):
        return tail
    existing = {match[1] for match in _EXISTENTIAL.finditer(sentence)}
    for numerals in (existing, set(_NUMERAL.findall(tail)), set(_NUMERAL.findall(sentence))):
        if numerals:
            return numerals.pop() if len(numerals) == 1 else None
    word = _NUMBER_WORD.match(tail)
    return word[0] if word else None


def _tail(sentence: str) -> str:
    end = 0
    for match in _COPULA.finditer(sentence):
        end = match.end()
    return _FILLER.sub("", trim(sentence[end:]))


def _is_value(text: str) -> bool:
    return parse_number(plain(text)) is not None or ("\\" in text and any(char.isdigit() for char in text))
