r"""Finds the contents of `\boxed{…}`."""

from __future__ import annotations

import re

_TOKENS = re.compile(r"\\(?:boxed|fbox|framebox)\s?\{|\\boxed (?=[^\s{])|\\[{}]|[{}]")

_BLANK = re.compile(r"(?:[\s?_.]|\\(?:[hv]?phantom\{[^{}]*\}|square|Box|ldots|dots|cdots|_|q?quad))*")


def boxed_contents(text: str) -> list[str]:
    r"""Returns what stands in each `\boxed{…}` of `text`, in order, braces balanced.

    Of boxes in boxes the innermost counts; unclosed boxes and blanks (empty, `?`, `\phantom{2}`) do not. One pass
    over the text, whatever its nesting.
    """
    contents: list[str] = []
    open_braces: list[int | None] = []  # where the content starts for a box, None for a plain brace
    has_inner_box: list[bool] = []
    for token in _TOKENS.finditer(text):
        if token[0].startswith("\\boxed "):
            contents.append(text[token.end() :].split(maxsplit=1)[0].strip("$.,"))
        elif token[0] in ("\\{", "\\}"):
            continue
        elif token[0].endswith("{"):
            open_braces.append(token.end() if len(token[0]) > 1 else None)
            has_inner_box.append(False)
        elif open_braces:
            start, inner = open_braces.pop(), has_inner_box.pop()
            if start is not None and not inner:
                contents.append(text[start : token.start()].strip())
            if has_inner_box and (inner or start is not None):
                has_inner_box[-1] = True
    return [content for content in contents if not _BLANK.fullmatch(content)]
