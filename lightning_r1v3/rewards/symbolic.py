"""Equality of expressions by math-verify, behind guards that keep out what it could not finish.

The guards make a hang rare; the worker's hard timeout (`worker_pool`) makes it harmless.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

MAX_LENGTH = 200
"""Characters of an expression that is still parsed."""
MAX_DEPTH = 8
"""Brackets in brackets; the LaTeX grammar's time grows exponentially with them."""

# math-verify warns on each first call that its own (signal-based) timeouts are off, as they must be off the main
# thread; ours is the worker's.
logging.getLogger("math_verify").setLevel(logging.ERROR)

_EXTRACTION = (LatexExtractionConfig(), ExprExtractionConfig())
_FUNCTIONS = (
    "sin cos tan cot sec csc arcsin arccos arctan log ln lg exp sqrt pi frac times cdot div pm mp infty in cup cap "
    "leq geq neq le ge lt gt alpha beta gamma delta theta lambda mu sigma phi omega begin end pmatrix bmatrix overline "
    "angle triangle binom emptyset mathbb setminus mid max min"
)
_WORD = re.compile(r"[A-Za-z]{2,}")
_HUGE = re.compile(
    r"\d{31}|\d{4,}\s?!|!\s?!|\^\s?\{?[^{}]{0,20}\^|\*\*|\^\s?\{?\s?-?\(?\d{4,}|[)\]}]\s?\^\s?\{?\s?(?:\d{3}|[2-9]\d|1[3-9])"
)


def is_expression(text: str) -> bool:
    """Returns whether a plain answer is mathematics of a safe size, not prose."""
    if not text or len(text) > MAX_LENGTH or _HUGE.search(text) or _depth(text) > MAX_DEPTH:
        return False
    words = [word for word in _WORD.findall(text) if word not in _FUNCTIONS.split()]
    if any(len(word) > 2 for word in words):  # noqa: PLR2004 (two letters may be a product or a segment)
        return False
    return not words or any(char in "0123456789\\=^+*/" for char in text)


@lru_cache(maxsize=4096)  # a group's completions repeat their answers
def same_expression(candidate: str, gold: str) -> bool:
    """Returns whether math-verify finds two plain answers equal; False when it can parse neither.

    Not bounded in time: call it where a hang is harmless.
    """
    if not (is_expression(candidate) and is_expression(gold)):
        return False
    gold_parsed, candidate_parsed = _parsed(gold), _parsed(candidate)
    if not gold_parsed or not candidate_parsed:
        return False
    return bool(verify(list(gold_parsed), list(candidate_parsed), timeout_seconds=None))


@lru_cache(maxsize=1024)  # one gold answer is compared with a whole group of completions
def _parsed(text: str) -> tuple[Any, ...]:
    return tuple(parse(f"${text}$", _EXTRACTION, fallback_mode="no_fallback", parsing_timeout=None))


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest
