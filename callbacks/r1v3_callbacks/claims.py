"""Claims of not seeing the image, in English and Chinese (paper 6.4)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_CANNOT = r"(?:can(?:no|'?)t|can not|could(?:n't| not)|(?:am|are|'m|'re|is) not able to|unable to)"
_SEE = r"(?:(?:actually|directly|really|clearly|physically) )?(?:see|view|access|look at|perceive|open|display)"
_PART = r"(?:what(?:'s| is) (?:in|on|shown in) )?"
_THE = r"(?:the|this|that|these|any|an?|your|its)"
_KIND = r"(?:actual|attached|given|provided|original|uploaded|referenced|accompanying)"
_PICTURE = r"(?:image|picture|figure|diagram|photo(?:graph)?|graph|chart|plot|drawing|screenshot|illustration)s?\b"
_THE_PICTURE = rf"{_THE}(?: {_KIND})* {_PICTURE}"
_IS = r"(?:is|was|are|were|has been|have been)"
_GIVEN = r"(?:visible|provided|shown|available|attached|displayed|included|given|here)"
_PICTURE_ZH = r"(?:图片|图像|图形|图表|照片|附图|插图|图)"
_CANNOT_SEE_ZH = r"(?:看不到|看不见|没有?看到|(?:无法|不能|没法)(?:直接)?(?:看到|看见|查看|访问))"
_GIVE_ZH = r"(?:提供|附上|给出|上传|显示)"
_WITHIN_ZH = r"[^\u3002\uff01\uff1f]{0,6}?"

CLAIMS = (
    rf"\b{_CANNOT} {_SEE} {_PART}{_THE_PICTURE}",
    rf"\b(?:do not|don't) (?:see|have|have access to) {_THE_PICTURE}",
    rf"\bwithout (?:(?:being able to )?see(?:ing)?|access to) {_THE_PICTURE}",
    rf"\b{_THE_PICTURE} (?:{_IS} not {_GIVEN}|(?:isn|wasn|aren)'t {_GIVEN}|{_IS} missing)",
    rf"\bno {_PICTURE} {_IS} {_GIVEN}",
    rf"{_CANNOT_SEE_ZH}{_WITHIN_ZH}{_PICTURE_ZH}",
    rf"(?:没有|未|并未){_GIVE_ZH}{_WITHIN_ZH}{_PICTURE_ZH}",
    rf"{_PICTURE_ZH}(?:片|像)?(?:并?没有|未|并未)(?:被)?{_GIVE_ZH}",
)
"""Patterns of such claims; upper and lower case are the same."""


class ClaimFinder:
    """Tells whether a text claims not to see the image."""

    def __init__(self, patterns: Sequence[str] = CLAIMS) -> None:
        """Compiles the patterns.

        Args:
            patterns: Regular expressions, of which one is enough.

        Raises:
            ValueError: There is none, or one is not a regular expression.
        """
        if not patterns:
            raise ValueError("claims: expected at least one pattern, got none")
        try:
            self._pattern = re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)
        except re.error as error:
            raise ValueError(f"claims: {error.pattern!r} is no regular expression: {error}") from error

    def claims(self, text: str) -> bool:
        """Returns whether it does; line breaks count as spaces, and typographic apostrophes as plain ones."""
        return self._pattern.search(" ".join(text.replace("\u2019", "'").split())) is not None


@dataclass(frozen=True)
class ClaimCounts:
    """Completions of a step, split by whether they claim not to see the image."""

    num: int = 0
    """All of them."""
    num_reasoning: int = 0
    """With a claim in the reasoning."""
    num_answer: int = 0
    """With a claim in the final answer."""
    num_claiming: int = 0
    """With a claim in either."""
    right_claiming: float = 0.0
    """Sum of accuracy over these."""
    right_others: float = 0.0
    """Sum of accuracy over the rest."""

    def __add__(self, other: ClaimCounts) -> ClaimCounts:
        return ClaimCounts(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def shares(self) -> dict[str, float]:
        """Returns the shares with a claim in the reasoning, in the answer, and in either; nothing of nothing."""
        counts = {"reasoning": self.num_reasoning, "answer": self.num_answer, "any": self.num_claiming}
        return {name: count / self.num for name, count in counts.items() if self.num}

    def accuracies(self) -> dict[str, float]:
        """Returns the accuracy of both halves (table 5); a half without a completion is left out."""
        halves = {
            "accuracy_claiming": (self.right_claiming, self.num_claiming),
            "accuracy_others": (self.right_others, self.num - self.num_claiming),
        }
        return {name: right / count for name, (right, count) in halves.items() if count}


def count_claims(
    finder: ClaimFinder, texts: Sequence[str], accuracy: Sequence[float], *, reasoning_end: str
) -> ClaimCounts:
    """Returns the counts of some completions.

    Args:
        finder: What a claim is.
        texts: The completions.
        accuracy: 1 for each right answer, else 0.
        reasoning_end: What ends the reasoning; a text without it is all reasoning.
    """
    total = ClaimCounts()
    for text, right in zip(texts, accuracy, strict=True):
        reasoning, _, answer = text.partition(reasoning_end)
        in_reasoning, in_answer = finder.claims(reasoning), finder.claims(answer)
        claiming = in_reasoning or in_answer
        total += ClaimCounts(
            num=1,
            num_reasoning=int(in_reasoning),
            num_answer=int(in_answer),
            num_claiming=int(claiming),
            right_claiming=right if claiming else 0.0,
            right_others=0.0 if claiming else right,
        )
    return total
