"""Decides whether two answers are the same value: as text, exact number, quantity, list or expression."""

from __future__ import annotations

import re

from lightning_r1v3.rewards.equation import equation_end, without_name
from lightning_r1v3.rewards.latex import plain, trim
from lightning_r1v3.rewards.numeric import Number, parse_number, same_number
from lightning_r1v3.rewards.symbolic import same_expression
from lightning_r1v3.rewards.units import Quantity, split_unit, without_noun

_SEPARATOR = re.compile(r"\s?(?:,| or | and |;|或|和)\s?(?:or |and )?")
_CLOCK = re.compile(r"(?<=\d)\s?([ap])\.?\s?m\b\.?", re.IGNORECASE)
_BASE = re.compile(r"\d\s?_\s?\{?\s?\d")
_NOISE = re.compile(r"\\(?=[A-Za-z])|[\s{}$\\]")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = re.compile(r"[^\w%°.+-]|(?<!\d)\.|\.(?!\d)")
_APPROXIMATION = 0.01  # how far the two sides of a written "≈" may be apart


def equivalent(candidate: str, gold: str) -> bool:
    r"""Returns whether `candidate` states exactly the value of `gold`.

    Numbers compare exactly (no rounding: `0.33` is not `1/3`), units convert when both are known and drop when only
    one is written, a percent equals its number and its ratio, lists compare as sets, expressions by math-verify.
    A candidate that names several values equals no single gold.

    Args:
        candidate: A stated answer, folded (`folding.fold`) or not: LaTeX, Markdown and units may be in it.
        gold: The reference answer, in the same freedom.
    """
    candidate, gold = (_CLOCK.sub(lambda match: f"{match[1].lower()}m", plain(text)) for text in (candidate, gold))
    if not candidate or not gold:
        return False
    if same_text(candidate, gold):
        return True
    if bool(_BASE.search(candidate)) != bool(_BASE.search(gold)):  # 12_5 is not 12
        return False
    if "≈" in candidate and "≈" not in gold:
        return _approximation_states(candidate, gold)
    candidate_side, gold_side = without_name(candidate), without_name(gold)
    return _same_value(candidate_side, gold_side) or _same_list(candidate_side, gold_side)


def same_text(left: str, right: str) -> bool:
    """Returns whether two plain answers are the same but for spaces, articles, punctuation and the case of words."""
    if _NOISE.sub("", left) == _NOISE.sub("", right):
        return True
    return len(left) > 1 and _words(left) == _words(right) != ""


def _words(text: str) -> str:
    # A single letter keeps its case: X and x may be two variables, but "Yes" and "yes" are one word.
    text = " ".join(_PUNCTUATION.sub(" ", _ARTICLES.sub(" ", text.lower())).split())
    return text if re.search(r"[^\W\d_]{3}", text) or text in ("no", "up") else ""


def _same_value(candidate: str, gold: str) -> bool:
    candidate_quantity, gold_quantity = split_unit(candidate), split_unit(gold)
    candidate_number, gold_number = _number(candidate_quantity), _number(gold_quantity)
    if candidate_number and gold_number:
        return _same_quantity(candidate_quantity, candidate_number, gold_quantity, gold_number)
    if ":" in candidate + gold:  # clock times and ratios are texts: 4:2 is not 2:1 when a time is meant
        return _fraction_is_ratio(candidate, gold) or _fraction_is_ratio(gold, candidate)
    if "=" in candidate and "=" not in gold:
        end = equation_end(candidate)
        return bool(end) and _same_value(str(end), gold)
    if not (candidate_quantity.certain and gold_quantity.certain):
        return same_expression(candidate, gold)
    if candidate_quantity.kind and gold_quantity.kind and candidate_quantity.kind != gold_quantity.kind:
        return False
    return same_expression(candidate_quantity.magnitude.rstrip("°"), gold_quantity.magnitude.rstrip("°"))


def _number(quantity: Quantity) -> Number | None:
    return parse_number(quantity.magnitude) or parse_number(without_noun(quantity.magnitude))


def _same_quantity(candidate: Quantity, candidate_number: Number, gold: Quantity, gold_number: Number) -> bool:
    if candidate.kind and gold.kind:
        return (
            candidate.kind == gold.kind and candidate_number.value * candidate.factor == gold_number.value * gold.factor
        )
    if gold.kind and not gold.certain:  # `5m` may be five times m
        return False
    return same_number(candidate_number, gold_number)


def _fraction_is_ratio(fraction: str, ratio: str) -> bool:
    left, right = parse_number(fraction), parse_number(ratio.replace(":", "/"))
    return left is not None and right is not None and ("/" in fraction or "\\frac" in fraction) and left == right


def _approximation_states(candidate: str, gold: str) -> bool:
    """Accepts either side of `1/3 ≈ 0.333` when the two sides are in fact near each other."""
    exact, _, rounded = candidate.rpartition("≈")
    exact = exact.rpartition("=")[2] or exact
    left, right = _number(split_unit(trim(exact))), _number(split_unit(trim(rounded)))
    if left and right and abs(left.value - right.value) > _APPROXIMATION * abs(left.value):
        return False
    return _same_value(trim(exact), gold) or _same_value(trim(rounded), gold)


def _same_list(candidate: str, gold: str) -> bool:
    candidate_parts, gold_parts = _parts(candidate), _parts(gold)
    if len(gold_parts) == 1 and len(candidate_parts) == 1:
        return False
    return all(any(_same_part(part, other) for other in gold_parts) for part in candidate_parts) and all(
        any(_same_part(part, other) for part in candidate_parts) for other in gold_parts
    )


def _same_part(candidate: str, gold: str) -> bool:
    candidate, gold = without_name(candidate), without_name(gold)
    return same_text(candidate, gold) or _same_value(candidate, gold)


def _parts(text: str) -> list[str]:
    r"""Divides `2, 3` and `x = 1 or x = 2`; points `(1, 2)`, intervals and `1,234` stay whole, `\pm 2` is two."""
    if text.startswith("\\pm "):
        return [text[4:], "-" + text[4:]]
    inner = text[1:-1] if text.startswith("\\{") is False and text.startswith("{") and text.endswith("}") else text
    inner = inner.removeprefix("\\{").removesuffix("\\}").strip("\\ ")
    if any(bracket in inner for bracket in "()[]") or parse_number(inner):
        return [text]
    return [trim(part) for part in _SEPARATOR.split(inner) if trim(part)]
