"""Brings the many ways to type one character to a single one: full-width, superscripts, Chinese punctuation."""

from __future__ import annotations

import re
import unicodedata

_SUPERSCRIPTS = re.compile("[⁺⁻]?[⁰¹²³⁴-⁹]+")
_VULGAR_FRACTIONS = re.compile("[¼-¾⅐-⅞]")
_END_OF_TURN = re.compile(r"</s>|<\|(?:im_end|endoftext|end|eot_id)\|>")
_BLANKS = re.compile(r"[^\S\n]+")
_EMPTY_LINES = re.compile(r"\n\s*\n")

# Applied before NFKC, which would turn the first two into letters.
_BEFORE_NFKC = str.maketrans({"º": "°", "˚": "°", "∘": "°", "′": "'", "″": '"'})
_AFTER_NFKC = str.maketrans(
    {
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff"),
        **dict.fromkeys("−–—‐‑﹣", "-"),
        **dict.fromkeys("“”„「」『』", '"'),
        **dict.fromkeys("‘’", "'"),
        "⁄": "/",
        "∕": "/",
        "∶": ":",
        "。": ". ",
        "、": ",",
        "【": " ",
        "】": ": ",
    }
)


def fold(text: str) -> str:
    """Returns `text` with one spelling per character and single spaces.

    Full-width letters, digits and punctuation become ASCII, `²` becomes `^{2}`, `½` becomes ` 1/2`, Chinese stops
    and brackets become their Latin counterparts, and end-of-turn tokens go.
    """
    text = _END_OF_TURN.sub(" ", text).translate(_BEFORE_NFKC)
    text = _SUPERSCRIPTS.sub(lambda match: "^{" + unicodedata.normalize("NFKC", match[0]) + "}", text)
    text = _VULGAR_FRACTIONS.sub(lambda match: " " + unicodedata.normalize("NFKC", match[0]), text)
    text = unicodedata.normalize("NFKC", text).translate(_AFTER_NFKC)
    return _EMPTY_LINES.sub("\n\n", _BLANKS.sub(" ", text)).strip()
