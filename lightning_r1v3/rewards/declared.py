"""Finds answers that a completion declares: `Answer: (C)`, `the answer is C`, `option B is correct`, `故选C`."""

from __future__ import annotations

import re

from lightning_r1v3.rewards.boxed import boxed_contents

MAX_DECLARATION = 600
"""Characters of a declared answer that are read; the longest choices of the public sets are shorter."""

_DECLARATION = re.compile(
    # In English: the (final) answer (to the question) is; the correct option letter is; Answer: C; Answer (C).
    r"\b(?:answer|(?:correct|right|best|final) (?:option|choice|statement|one|letter)|option letter)s?\b"
    r"(?: (?:option|choice|letter|value|number))?(?:\*\*|__|\")?"
    r"(?: (?:to|for|of|in|here|that)\b[^.:\n=]{0,80}?)?"
    r"(?:\s?(?:is|are|would be|should be|must be|will be|was)\b\s?(?:therefore|thus|then|indeed|option|choice)?\s?[:,]?"
    r"|\s?[:=]|\s-(?=\s)|(?=\s?\([A-Z]\)(?!,| is| are| does)))(?:\*\*|__)?"
    # In Chinese: the answer is, the answer is to choose, hence choose.
    r"|(?:答案|结果)(?:选项|应该|应)?(?:是|为|选|:)\s?:?|(?:应|故|所以|因此|我)?选(?:择|项)?(?:是|为|:)?\s?(?=[(\s]{0,2}[A-Z](?![a-z]))",
    re.IGNORECASE,
)
_NAMED_CORRECT = re.compile(
    r"(?:\boption |\bchoice |\banswer |(?<=\())?\(?\b([A-Z])\b\)?(?: [^.\n]{0,60}?)? (?:is|are|must be|would be) "
    r"(?:the |therefore the |thus the )?(?:only )?(?:correct|right|best)(?: answer| option| choice)\b"
    r"|(?:\boption |\bchoice |\()([A-Z])\b\)? (?:is|must be) (?:the )?(?:correct|right|true)\b(?! for)"
    r"|([A-Z]) ?(?:是|为)?正确",
)
_CHOOSE = re.compile(
    r"\b(?:I (?:would )?(?:choose|pick|select)|choose|select|pick|go with)(?: option| choice)? \(?([A-Z])\)?(?![\w'])"
)
_TAGGED = re.compile(r"<answer>([^<]{1,600})</answer>", re.IGNORECASE)
_NEGATION = re.compile(r"\s?(?:not|n't|never|neither|unknown|unclear|wrong|incorrect)\b|\s?(?:不|错)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)(?<! [ap]\.m\.\s)(?<!approx\.\s)|</answer>", re.IGNORECASE)
_BOX = re.compile(r"\\(?:boxed|fbox)")
_ONLY_DELIMITERS = re.compile(r"[\s*_$\\\[\](){}:#-]*")


def declared_answers(text: str) -> list[str]:
    """Returns each answer that a folded answer part declares in words or in `<answer>` tags, in order.

    A declaration that leads to a box gives the content of the box; one that is negated gives nothing.
    """
    spans: list[tuple[int, str]] = [(match.start(), match[1]) for match in _TAGGED.finditer(text)]
    for pattern in (_NAMED_CORRECT, _CHOOSE):
        spans += [(match.start(), next(filter(None, match.groups()))) for match in pattern.finditer(text)]
    spans += [
        (match.start(), _statement(text[match.end() :][:MAX_DECLARATION])) for match in _DECLARATION.finditer(text)
    ]
    return [span.strip() for _, span in sorted(spans) if span.strip() and not _NEGATION.match(span)]


def _statement(rest: str) -> str:
    """Returns the sentence at the start of `rest`, on the same line or, when that is empty, on the next one."""
    for line in rest.split("\n"):
        if _ONLY_DELIMITERS.fullmatch(line):
            continue
        end = _SENTENCE_END.search(line)
        box = _BOX.search(line, 0, end.start() if end else len(line))
        boxes = boxed_contents(line) if box else []
        return boxes[0] if boxes else line[: end.start() if end else None]
    return ""
