"""One line out of the pages that the argument parser says about a wrong configuration."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, get_args, get_type_hints

_KEY = re.compile(r'Parser key "([^"]+)"')
_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_FACTORY = re.compile(r"class_path='([^']+)'")
_TYPO = re.compile(r"(?:[Oo]ption '|unrecognized arguments: (?:--)?)([^'\s=]+)")
_NO_ATTRIBUTE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_WANTS_TYPE = re.compile(r"Expected an? <class '\S+'>")
_GIVEN = re.compile(r"Given value: (.*)")
_PROTOCOL = re.compile(r"Import path (?:(\S+) )?does not implement protocol (\w+)")
_FRAME = re.compile(r"$|Parser key|Problem with given|Does not validate|Subtypes:|Errors:|Given value|.*NoneType'>$")
"""Lines around the reasons."""


def explain(message: str, known: Sequence[str]) -> str:
    """Returns the key, what was expected and what came, and the nearest name where one is misspelt.

    Args:
        message: From jsonargparse: a nest of keys, classes and alternatives, with the reasons innermost.
        known: Dotted names of the command line's own keys.
    """
    reason, keys = _innermost_reason(message), _KEY.findall(message)
    if typo := _TYPO.search(reason):
        classes = [*_CLASS.findall(message), *_FACTORY.findall(reason)]
        nearest = _nearest_parameter(typo[1], classes[-1]) if classes else get_close_matches(typo[1], known, n=1)
        return f"unknown key {'.'.join([*keys, typo[1]])!r}{_did_you_mean(nearest)}"
    if missing := _NO_ATTRIBUTE.search(reason):
        nearest = get_close_matches(missing[2], dir(import_module(missing[1])), n=1)
        reason = f"{missing[1]} has no {missing[2]!r}{_did_you_mean(nearest)}"
    elif unfit := _PROTOCOL.search(reason):
        given = _GIVEN.search(message)
        given_class = unfit[1] or (given[1] if given else "this class")
        reason = f"{given_class} is no {unfit[2]}: it needs all its methods, with the same parameters and annotations"
    elif _WANTS_TYPE.fullmatch(reason) and (given := _GIVEN.search(message)):
        reason += f", got {given[1]}"
    return f"{'.'.join(keys)}: {_plain(reason)}" if keys else _plain(reason)


def _innermost_reason(message: str) -> str:
    if "Does not validate" not in message and "Problem with given" not in message:
        return " ".join(_KEY.sub("", message).split()).removeprefix(": ")
    lines = [line.replace("- ", "  ", 1) if line.lstrip().startswith("- ") else line for line in message.splitlines()]
    reasons = [line for line in lines if not _FRAME.match(line.strip())]
    return max(reasons, key=lambda line: len(line) - len(line.lstrip())).strip()


def _nearest_parameter(typo: str, class_path: str) -> list[str]:
    """The parameter next to the first part of a dotted name that its class does not have."""
    module, _, name = class_path.rpartition(".")
    owner: Any = getattr(import_module(module), name)
    for part in typo.split("."):
        parameters = [parameter for parameter in inspect.signature(owner).parameters if parameter != "self"]
        if part not in parameters:
            return get_close_matches(part, parameters, n=1)
        hint = get_type_hints(owner if is_dataclass(owner) else owner.__init__)[part]
        owner = next(kind for kind in (*get_args(hint), hint) if inspect.isclass(kind) and kind is not type(None))
    return []


def _did_you_mean(nearest: Sequence[str]) -> str:
    return f": did you mean {nearest[0]!r}?" if nearest else ""


def _plain(reason: str) -> str:
    reason = re.sub(r"<class '(?:[\w]+\.)*(\w+)'>", r"\1", reason)
    reason = re.sub(r"typing\.Literal\[(.*?)\]", r"one of \1", reason).replace("a one of", "one of")
    return re.sub(r"\.? Got value:", ", got", reason)
