"""Finds the answer of a text that boxes and declares none: in its last sentence or, of a choice, where it is named."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lightning_r1v3.rewards.choices import (
    choice_letter,
    leading_choice,
    mentioned_choices,
    mentioned_letters,
    named_choices,
)

_CONCLUSION = re.compile(
    r"^\W{0,4}(?:so|therefore|thus|hence|consequently|in conclusion|in summary|finally|as a result)\b"
    r"|^\W{0,4}(?:所以|因此|故|综上)",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"\b(?:is|are|was|were)(?: not|n't) (?!(?:possible|enough|clear|known|given|provided|specified|sure|able)\b)"
)
_REJECTION = re.compile(
    r"\b(?:answer|option|choice)\b[^.!?\n]{0,40}(?:\bnot\b|n't\b|\bincorrect\b|\bwrong\b|不)", re.IGNORECASE
)
_SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s(?=[A-Z(\\$*一-鿿])|\n")


def concluding_statement(text: str) -> str:
    """Returns the last sentence of a folded answer part that says so (`Therefore, …`), else its last sentence."""
    sentences = [sentence for sentence in _SENTENCE_BREAK.split(text) if sentence.strip("*-#$[]\\ ")]
    conclusions = [sentence for sentence in sentences if _CONCLUSION.match(sentence)]
    return (conclusions or sentences or [""])[-1].strip()


def without_rejections(text: str) -> str:
    """Returns a folded answer part without the sentences that say what the answer is not."""
    lines = (
        " ".join(sentence for sentence in _SENTENCE_BREAK.split(line) if not _REJECTION.search(sentence))
        for line in text.split("\n")
    )
    return "\n".join(lines)


def concluding_choices(text: str, choices: Sequence[str]) -> list[str]:
    """Returns the statements in which a folded answer part names its choice.

    A line that opens with a choice (`C`, `(B) no`, `No, …`) states it. Several such lines that differ are a list of
    the options: the sentence after them decides, and without one they all count. Else the concluding sentence
    decides, else whatever the text names anywhere.
    """
    conclusion = concluding_statement(text)
    leading = _leading_lines(text, choices)
    if len(leading) == 1:
        (index,) = leading
        others = mentioned_letters(conclusion, choices) - {index}
        return [leading[index], conclusion] if others else [leading[index]]
    if leading and leading_choice(conclusion, choices) is not None:
        return list(leading.values())
    letters = mentioned_letters(conclusion, choices) or mentioned_letters(text, choices)
    if len(letters) != 1 and named_choices(conclusion, choices):
        return [conclusion]
    named = letters or mentioned_choices(text, choices) or _denied(text, choices)
    return [f"({choice_letter(index)})" for index in sorted(named)]


def _leading_lines(text: str, choices: Sequence[str]) -> dict[int, str]:
    lines = (line for line in text.split("\n") if line.strip())
    return {index: line for line in lines if (index := leading_choice(line, choices)) is not None}


def _denied(text: str, choices: Sequence[str]) -> frozenset[int]:
    """Reads `The function is not convex` as No where the choices are Yes and No."""
    words = [choice.strip().lower() for choice in choices]
    return frozenset({words.index("no")}) if set(words) == {"yes", "no"} and _NEGATED.search(text) else frozenset()
