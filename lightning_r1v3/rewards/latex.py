r"""Strips what LaTeX and Markdown add for the eye, leaving the mathematics: `\text{(B)}` is `(B)`."""

from __future__ import annotations

import re

_MAX_NESTED_WRAPPERS = 3  # \textbf{\text{\mathrm{…}}} is as deep as models write it

_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mathcal|boldsymbol|bm|mbox|hbox|operatorname|emph"
    r"|underline|boxed)\*?\s?\{([^{}]*)\}"
)
_DELIMITERS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=[\d)xy])\*\*(?=[\d(])"), "^"),
    (re.compile(r"\\[$]|(?<!\\)[$]|\*\*|__|`"), ""),
    (re.compile(r"\\[()\[\]]"), " "),
    (re.compile(r"(?<=\d)(?:\{,\}|\\,|,\\!)(?=\d{3})"), ","),
)
_NOTATION: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\\(?:begin|end)\{(?:aligned|align\*?|equation\*?|gathered|array)\}"), " "),
    (re.compile(r"\\(?:displaystyle|limits|left|right|[bB]igg?[lr]?)(?![A-Za-z])"), ""),
    (re.compile(r"\\[;:,!> ]|~|\\q?quad(?![A-Za-z])|\\\\"), " "),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\^\s?\{?\s?\\circ\s?\}?|\\degree(?![A-Za-z])|\\circ(?![A-Za-z])|\s?\bdegrees?\b"), "°"),
    (re.compile(r"\\%|\s?\bper ?cent(?:age)?\b|\s%"), "%"),
    (re.compile(r"π"), r"\\pi "),
    (re.compile(r"√\s?(\d+(?:\.\d+)?|[A-Za-z])"), r"\\sqrt{\1}"),
    (re.compile(r"√\s?\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"√"), r"\\sqrt"),
    (re.compile(r"\\sqrt\s?(\d)"), r"\\sqrt{\1}"),
    (re.compile(r"×|\\ast(?![A-Za-z])"), r"\\times "),
    (re.compile(r"[·⋅]"), r"\\cdot "),
    (re.compile(r"\\approx(?![A-Za-z])"), "≈"),
    (re.compile(r"\\(?:le|leq|leqslant)(?![A-Za-z])|≤"), r"\\leq "),
    (re.compile(r"\\(?:ge|geq|geqslant)(?![A-Za-z])|≥"), r"\\geq "),
    (re.compile(r"\\(?:colon(?![A-Za-z])|!)"), ":"),
)


def plain(text: str) -> str:
    r"""Returns a folded answer without delimiters, wrappers, spacing commands and closing punctuation.

    `\left( \dfrac{1}{2} \right)` becomes `( \frac{1}{2} )`, `39^{\circ}` becomes `39°`, `√5` becomes `\sqrt{5}`,
    `10{,}000` becomes `10,000`, `\textbf{(C)}` becomes `(C)`.
    """
    for pattern, replacement in _DELIMITERS:
        text = pattern.sub(replacement, text)
    for _ in range(_MAX_NESTED_WRAPPERS):
        unwrapped = _WRAPPER.sub(r"\1", text)
        if unwrapped == text:
            break
        text = unwrapped
    for pattern, replacement in _NOTATION:
        text = pattern.sub(replacement, text)
    return trim(text)


def trim(text: str) -> str:
    """Returns `text` with single spaces, without closing punctuation, outer quotes and outer braces."""
    text = " ".join(text.split())
    while True:
        before = text
        text = text.strip(" \n\"'").rstrip(".,;:!?").lstrip(":;,= ")
        if text.startswith("{") and text.find("}") == len(text) - 1:
            text = text[1:-1]
        if text == before:
            return text
