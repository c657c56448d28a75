"""A sample's JSON record and encoded images, checked and turned into a `Sample`, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_r1v3.data.pictures import MAX_IMAGE_PIXELS, decode_rgb
from lightning_r1v3.data.placeholders import count_placeholders, place_images
from lightning_r1v3.types import Sample

FIELDS = ("id", "question", "answer", "choices", "response", "domain", "difficulty", "source")
"""The fields of a record that are read; others may be there and are ignored."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Names of the options in order."""

MIN_CHOICES = 2

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def parse_record(encoded: bytes) -> dict[str, Any]:
    """Reads a sample's JSON.

    Raises:
        ValueError: If it is no JSON object.
    """
    try:
        record = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"invalid JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"invalid JSON: expected an object, not {type(record).__name__}")
    return record


def build_sample(
    record: Mapping[str, Any], images: Sequence[bytes], *, key: str, max_image_pixels: int = MAX_IMAGE_PIXELS
) -> Sample:
    """Checks a record with its images and returns the sample.

    Args:
        record: The fields of the shard layout; `question` and `answer` are required, `id` is the key when absent.
        images: Encoded pictures in the order of their numbers.
        key: The sample's key in its shard.
        max_image_pixels: Bound on each picture's width x height.

    Raises:
        ValueError: With the first fault found.
    """
    question, order = place_images(_text(record, "question"), len(images))
    choices = _choices(record)
    return Sample(
        id=_text(record, "id", key),
        question=question,
        images=tuple(decode_rgb(images[index], max_image_pixels) for index in order),
        answer=_answer(record, choices),
        choices=choices,
        response=_response(record),
        domain=_text(record, "domain", ""),
        difficulty=_text(record, "difficulty", ""),
        source=_text(record, "source", ""),
    )


def record_of(sample: Sample) -> dict[str, Any]:
    """Returns the sample's JSON record, fields without a value left out."""
    fields = {name: getattr(sample, name) for name in FIELDS}
    return {name: value for name, value in fields.items() if value not in (None, "")}


def _text(record: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = record.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {type(value).__name__}")
    if not value.strip() and default != "":
        raise ValueError(f"{name} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} is not valid Unicode: {error}") from error
    return value


def _without_placeholder(name: str, text: str) -> str:
    if count_placeholders(text):
        raise ValueError(f"extra <image> in {name}: placeholders belong in the question")
    return text


def _choices(record: Mapping[str, Any]) -> tuple[str, ...] | None:
    choices = record.get("choices")
    if choices is None:
        return None
    if not isinstance(choices, list) or not MIN_CHOICES <= len(choices) <= len(LETTERS):
        raise ValueError(
            f"choices must be null or a list of {MIN_CHOICES} to {len(LETTERS)} texts, not {choices!r:.80}"
        )
    options = dict(zip(LETTERS, choices, strict=False))
    return tuple(_without_placeholder("choices", _text(options, letter)) for letter in options)


def _response(record: Mapping[str, Any]) -> str | None:
    if record.get("response") is None:
        return None
    return _without_placeholder("response", _text(record, "response"))


def _answer(record: Mapping[str, Any], choices: tuple[str, ...] | None) -> str:
    answer = _without_placeholder("answer", _text(record, "answer"))
    if control := _CONTROL.search(answer):
        raise ValueError(f"answer {answer!r} has the control character {control[0]!r}: a backslash lost in its JSON?")
    if choices is not None and answer not in tuple(LETTERS[: len(choices)]):
        raise ValueError(f"answer not among the choices: expected A to {LETTERS[len(choices) - 1]}, not {answer!r:.80}")
    return answer
