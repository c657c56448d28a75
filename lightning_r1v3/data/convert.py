"""Makes shards: `python -m lightning_r1v3.data.convert INPUT.jsonl|INPUT.parquet --images DIR --out DIR`.

A bad row is named with its reason and left out; the rest goes on. Exit status 0 when every row was converted, 1 when
any was bad, 2 when the arguments do not fit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lightning_r1v3.data.pictures import MAX_IMAGE_PIXELS
from lightning_r1v3.data.rows import IMAGES, read_rows, row_images, row_record
from lightning_r1v3.data.sample import FIELDS, parse_record
from lightning_r1v3.data.writer import ShardWriter


def convert(
    source: Path,
    images: Path,
    writer: ShardWriter,
    *,
    fields: Mapping[str, str],
    on_bad_row: Callable[[int, str], None],
) -> int:
    """Writes the good rows of a file.

    Args:
        source: JSONL or Parquet.
        images: Folder that image paths start from.
        writer: Takes the samples.
        fields: Our name of a field to its name in the rows, where they differ.
        on_bad_row: Told the number (from 1) and the fault of each row that is left out.

    Returns:
        The number of bad rows.

    Raises:
        ValueError: If the file as a whole cannot be read.
    """
    num_bad = 0
    for number, row in read_rows(source):
        try:
            parsed = row if isinstance(row, dict) else parse_record(row)
            record = row_record(parsed, fields, f"{source.stem}-{number:06d}")
            writer.write(record, row_images(parsed, fields, images))
        except ValueError as error:
            num_bad += 1
            on_bad_row(number, str(error))
    return num_bad


def parse_fields(pairs: Sequence[str]) -> dict[str, str]:
    """Parses `question=problem` pairs: our name, the rows' name.

    Raises:
        ValueError: If one is no pair, or names no field of ours.
    """
    fields = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs or ours not in (*FIELDS, IMAGES):
            raise ValueError(f"--field {pair!r}: expected OURS=THEIRS, OURS one of {', '.join((*FIELDS, IMAGES))}")
        fields[ours] = theirs
    return fields


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lightning_r1v3.data.convert", description="Makes shards.")
    parser.add_argument("source", type=Path, metavar="INPUT", help="a .jsonl or .parquet file, one sample a row")
    parser.add_argument("--images", type=Path, required=True, help="folder that image paths start from")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--name", help="of the shard set; default: the input's name")
    parser.add_argument("--field", action="append", default=[], metavar="OURS=THEIRS", help="e.g. question=problem")
    parser.add_argument("--max-samples", type=int, default=2048, help="of a shard, default %(default)s")
    parser.add_argument("--max-image-pixels", type=int, default=MAX_IMAGE_PIXELS, help="default %(default)s")
    options = parser.parse_args(arguments)
    try:
        fields = parse_fields(options.field)
        with ShardWriter(
            options.out,
            options.name or options.source.stem,
            max_samples=options.max_samples,
            max_image_pixels=options.max_image_pixels,
        ) as writer:
            num_bad = convert(
                options.source,
                options.images,
                writer,
                fields=fields,
                on_bad_row=lambda number, fault: _say_bad(options.source, number, fault),
            )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    sys.stdout.write(f"{writer.counts['samples']} samples written to {options.out}, {num_bad} bad rows left out\n")
    return 1 if num_bad else 0


def _say_bad(source: Path, number: int, fault: str) -> None:
    sys.stdout.write(f"{source}: row {number}: {fault}\n")


if __name__ == "__main__":
    sys.exit(main())
