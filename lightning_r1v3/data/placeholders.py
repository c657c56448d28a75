"""Image placeholders in a question: exactly one `<image>` per image file."""

from __future__ import annotations

import re

IMAGE_PLACEHOLDER = "<image>"

_PLACEHOLDER = re.compile(r"<image[ _]?(\d*)>")
_PLACEHOLDER_LINE = re.compile(r"\n[ \t]*<image[ _]?\d*>[ \t]*(?=\n|$)")


def count_placeholders(text: str) -> int:
    """Returns how many `<image>`, `<image1>`, `<image_1>` or `<image 1>` stand in the text."""
    return len(_PLACEHOLDER.findall(text))


def place_images(question: str, num_images: int) -> tuple[str, list[int]]:
    """Normalises the placeholders of a question.

    No placeholder: one per image is put before the text. Several for a single image: collapsed to the first (one file
    may show all the pictures that a question speaks of). Otherwise there must be as many as images; numbered ones must
    name each image once, and say which image stands where.

    Returns:
        The question with one `<image>` per image, and the index of the image that each of them stands for.

    Raises:
        ValueError: If placeholders and images do not match.
    """
    numbers = _PLACEHOLDER.findall(question)
    if not numbers:
        prefix = (IMAGE_PLACEHOLDER + "\n") * num_images
        return prefix + question, list(range(num_images))
    if num_images == 0:
        raise ValueError(f"missing image: the question has {len(numbers)} <image> and there is no image file")
    if num_images == 1:
        return _collapse(question), [0]
    if len(numbers) != num_images:
        fault = "missing" if len(numbers) < num_images else "extra"
        raise ValueError(f"{fault} <image>: the question has {len(numbers)} for {num_images} image files")
    return _PLACEHOLDER.sub(IMAGE_PLACEHOLDER, question), _image_indices(numbers)


def _collapse(question: str) -> str:
    first = _PLACEHOLDER.search(question)
    assert first is not None, "called with at least one placeholder"
    rest = _PLACEHOLDER_LINE.sub("", question[first.end() :])
    rest = re.sub(rf"[ \t]?{_PLACEHOLDER.pattern}", "", rest)
    return question[: first.start()] + IMAGE_PLACEHOLDER + rest


def _image_indices(numbers: list[str]) -> list[int]:
    if not any(numbers):
        return list(range(len(numbers)))
    if sorted(numbers) != sorted(str(number) for number in range(1, len(numbers) + 1)):
        raise ValueError(f"numbered placeholders must name <image1> to <image{len(numbers)}> once each, not {numbers}")
    return [int(number) - 1 for number in numbers]
