"""Rows of a JSONL or Parquet file as records and encoded images of the shard layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet

from lightning_r1v3.data.sample import FIELDS, LETTERS

Row = bytes | dict[str, Any]
"""A line of JSONL, not parsed yet, or a row of Parquet."""

IMAGES = "images"
"""Name of the pictures' field in `--field`; without a mapping, `image` is read as well."""


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yields the rows with their numbers, from 1; blank lines are left out.

    Raises:
        ValueError: If the file is neither `.jsonl` nor `.parquet`, or is no Parquet inside.
    """
    match path.suffix:
        case ".jsonl":
            with path.open("rb") as lines:
                yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        case ".parquet":
            with pyarrow.parquet.ParquetFile(path) as table:
                rows = (row for batch in table.iter_batches(batch_size=64) for row in batch.to_pylist())
                yield from enumerate(rows, 1)
        case _:
            raise ValueError(f"expected a .jsonl or .parquet file, not {path.name!r}")


def row_record(row: Mapping[str, Any], fields: Mapping[str, str], default_id: str) -> dict[str, Any]:
    """Returns a row's record: fields renamed, numbers as text, options as a list, the answer as their letter.

    Args:
        row: One row.
        fields: Our name of a field to its name in the row, where they differ.
        default_id: The `id` of a row that has none.

    Raises:
        ValueError: If options given by letter are not A, B, C, … without a gap.
    """
    values = {name: _as_text(row.get(fields.get(name, name))) for name in FIELDS}
    record = {name: value for name, value in values.items() if value not in (None, "", [], {})}
    record.setdefault("id", default_id)
    if isinstance(choices := record.get("choices"), dict):
        record["choices"] = choices = _in_order(choices)
    if isinstance(choices, list):
        record["choices"] = choices = [_as_text(choice) for choice in choices]
        if choices.count(record.get("answer")) == 1 and record["answer"] not in tuple(LETTERS[: len(choices)]):
            record["answer"] = LETTERS[choices.index(record["answer"])]
    return record


def row_images(row: Mapping[str, Any], fields: Mapping[str, str], folder: Path) -> list[bytes]:
    """Returns a row's encoded pictures: paths below the folder, or bytes as Hugging Face datasets store them.

    Raises:
        ValueError: If a picture is missing, or its path leaves the folder.
    """
    value = row.get(fields[IMAGES]) if IMAGES in fields else row.get(IMAGES, row.get("image"))
    if value is None:
        return []
    return [_encoded(picture, folder) for picture in (value if isinstance(value, list) else [value])]


def _as_text(value: object) -> Any:
    return str(value) if isinstance(value, int | float) else value


def _in_order(choices: Mapping[str, Any]) -> list[Any]:
    present = {letter: text for letter, text in choices.items() if text is not None}  # Parquet fills absent keys
    if sorted(present) != list(LETTERS[: len(present)]):
        raise ValueError(f"choices must be named A, B, C, … without a gap, not {list(choices)}")
    return [present[letter] for letter in sorted(present)]


def _encoded(picture: object, folder: Path) -> bytes:
    if isinstance(picture, dict):
        if isinstance(content := picture.get("bytes"), bytes):
            return content
        picture = picture.get("path")
    if not isinstance(picture, str):
        raise ValueError(f"an image must be a path or have bytes, not {type(picture).__name__}")
    path = (folder / picture).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"image path {picture!r} leaves the image folder: not read")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"missing image: {error}") from error
