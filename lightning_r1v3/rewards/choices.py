"""Reads which of the choices an answer names: by letter, by text, by value, or in a sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lightning_r1v3.rewards.equivalence import equivalent, same_text
from lightning_r1v3.rewards.latex import plain, trim
from lightning_r1v3.rewards.reading import readings

_LEADING = re.compile(
    r"^(?:the )?(?:option|choice|answer|选项|选)?\s?"
    r"(?:[(\[<]\s?([A-Za-z])\s?[)\]>]|([A-Z])(?![\w'^_{+*/=<>-])|([a-z])(?=[).:]|$))"
)
_LEADING_MARK = re.compile(r"^(?:\(\s?([A-Z])\s?\)|([A-Z])(?=[.):,]\s|[.):]?$))")
_OPENING_WORDS = re.compile(r"^[^,.:;\n(]{1,80}(?=[,.:;(\n]|$)")
_ANOTHER = re.compile(r"^\s?(?:,|/|&|or|and|或|和|与)\s?(?:(?:option|choice) )?(?:\(\s?([A-Z])\s?\)|([A-Z])(?![\w'^]))")
_ALTERNATIVES = re.compile(
    r"(?<![\w\\])\(?([A-Z])\)?(?:\s?(?:,|/|&|或|和|与)\s?|\s(?:or|and)\s)(?:option |choice )?\(?([A-Z])\)?(?![\w'])"
)
_SECOND_THOUGHT = re.compile(
    r"\b(?:or|but|maybe|might|could|perhaps|possibly|alternatively)\b[^.;]{0,30}?(?:\(([A-Z])\)|(?<!\w)([B-HJ-Z])(?![\w']))"
)
_EXPLAINED = re.compile(r"\b(?:because|since|as|for|due|unlike|like)\b")
_REASON = re.compile(r"^\s(?:because|since|as|is|are|and|or|for|with|which|if|due|based|given|,)")
_RUN_OF_LETTERS = re.compile(r"[A-Z]{2,8}")
_MENTIONED = re.compile(
    r"\(\s?([A-Z])\s?\)|\b(?:[Oo]ption|[Cc]hoice|选项)\s?\(?([A-Z])\b|\"([A-Z])\"|^([B-HJ-Z])[.):]|选\s?([A-Z])"
)
_STANDALONE = re.compile(r"(?<![\w'\\({^_-])([B-HJ-Z])(?![\w'(^_+=<>)}-])|(?<![\w'\\({^_-])([A])(?=[.\"]?$)")


def named_choices(answer: str, choices: Sequence[str]) -> frozenset[int]:
    """Returns the indices of all choices that a stated answer names; none, one, or several when it hedges.

    A letter decides over the text behind it, as in every public grader; a letter that is no choice's leaves the
    decision to the text.
    """
    text = plain(answer)
    exact = _equal_texts(text, choices)
    is_letter = len(text) == 1
    if exact and not is_letter:
        return exact
    return _by_leading_letter(text, choices) or _by_value(answer, choices) or mentioned_choices(text, choices)


def leading_choice(line: str, choices: Sequence[str]) -> int | None:
    """Returns the index of the choice that a line opens with: `(B) …`, `B. …`, `B`, or `No, …`; None without one."""
    text = plain(line)
    match = _LEADING_MARK.match(text)
    if match is not None:
        index = _index(match[1] or match[2], choices)
        return min(_text_behind(text[match.end() :], choices), default=None) if index is None else index
    words = _OPENING_WORDS.match(text)
    exact = _equal_texts(words[0], choices) if words else frozenset()
    return min(exact) if exact else None


def has_letter(answer: str) -> bool:
    """Returns whether an answer gives a letter, be it a choice's or not: `C`, `(E) none`, `option B`."""
    text = plain(answer)
    return bool(_LEADING_MARK.match(text) or _MENTIONED.search(text))


def mentioned_letters(text: str, choices: Sequence[str]) -> frozenset[int]:
    """Returns the choices whose letters a text marks as such: `(B)`, `option B`, `"B"`, `选B`."""
    letters = (next(filter(None, match.groups())) for match in _MENTIONED.finditer(text))
    return frozenset(index for letter in letters if (index := _index(letter, choices)) is not None)


def mentioned_choices(text: str, choices: Sequence[str]) -> frozenset[int]:
    """Returns the choices that a text mentions: by marked letter, else by their words, else by a bare capital."""
    if named := mentioned_letters(text, choices) or _contained(text, choices):
        return named
    letters = [next(filter(None, match.groups())) for match in _STANDALONE.finditer(text)]
    letters += [letter for match in _ALTERNATIVES.finditer(text) for letter in match.groups()]
    return frozenset(index for letter in letters if (index := _index(letter, choices)) is not None)


def gold_choice(answer: str, choices: Sequence[str]) -> int:
    """Returns the index of the right choice.

    Args:
        answer: Its letter (`A` is the first) or its text; a letter that is in range wins over an equal text.
        choices: Texts of the choices in order.

    Raises:
        ValueError: When `answer` names none of them.
    """
    text = plain(answer)
    letter = text.strip("()").upper()
    if len(letter) == 1 and (index := _index(letter, choices)) is not None:
        return index
    named = _equal_texts(text, choices) or frozenset(
        i for i, choice in enumerate(choices) if equivalent(choice, answer)
    )
    if not named:
        raise ValueError(
            f"expected answer to be a letter from A to {choice_letter(len(choices) - 1)} or one of {list(choices)!r}, "
            f"got {answer!r}; correct the sample"
        )
    return min(named)


def same_choice(left: int, right: int, choices: Sequence[str]) -> bool:
    """Returns whether two indices stand for one choice: equal, or written twice among the choices."""
    return left == right or plain(choices[left]) == plain(choices[right])


def _by_leading_letter(text: str, choices: Sequence[str]) -> frozenset[int]:
    if _RUN_OF_LETTERS.fullmatch(text) and all(_index(char, choices) is not None for char in text):
        return frozenset(ord(char) - ord("A") for char in text)
    match = _LEADING.match(text)
    if match is None:
        return frozenset()
    rest = text[match.end() :]
    if match[2] in ("A", "I") and re.match(r"\s[a-z0-9]", rest) and not _REASON.match(rest):
        return frozenset()  # an article or a pronoun
    letters = [next(filter(None, match.groups())).upper()]
    while another := _ANOTHER.match(rest):
        letters.append(next(filter(None, another.groups())))
        rest = rest[another.end() :]
    letters += [next(filter(None, match.groups())) for match in _SECOND_THOUGHT.finditer(_EXPLAINED.split(rest)[0])]
    named = frozenset(index for letter in letters if (index := _index(letter, choices)) is not None)
    return named or _text_behind(rest, choices)


def _text_behind(rest: str, choices: Sequence[str]) -> frozenset[int]:
    return _equal_texts(trim(rest.lstrip(" ).:]-")), choices)


def _by_value(answer: str, choices: Sequence[str]) -> frozenset[int]:
    for reading in readings(answer):
        text = plain(reading)
        named = _equal_texts(text, choices)
        if not named and any(char.isdigit() or char == "\\" for char in text):
            named = frozenset(i for i, choice in enumerate(choices) if equivalent(reading, choice))
        if named:
            return named
    return frozenset()


def _contained(text: str, choices: Sequence[str]) -> frozenset[int]:
    """Returns the choices whose words, singular or plural, stand in the text.

    A choice inside a longer one that is named does not count.
    """
    spaced = f" {_spaced(text)} "
    found: set[int] = set()
    for index in sorted(range(len(choices)), key=lambda i: -len(choices[i])):
        words = _spaced(plain(choices[index]))
        forms = [words] if len(words) > 1 else []
        if re.search(r"[a-z]{3}$", words):
            forms += [words + "s", words.removesuffix("s")]
        for form in (f" {word} " for word in forms):
            if form in spaced:
                found.add(index)
                spaced = spaced.replace(form, "  ")
    return frozenset(found)


def _spaced(text: str) -> str:
    return " ".join(re.sub(r"[^\w%°$\\^{}/+.-]|\.(?!\d)", " ", text.lower()).split())


def _equal_texts(text: str, choices: Sequence[str]) -> frozenset[int]:
    return frozenset(index for index, choice in enumerate(choices) if same_text(text, plain(choice)))


def _index(letter: str, choices: Sequence[str]) -> int | None:
    index = ord(letter) - ord("A")
    return index if 0 <= index < len(choices) else None


def choice_letter(index: int) -> str:
    """Returns the letter of a choice: `A` for 0."""
    return chr(ord("A") + index)
