"""Checks shards: `python -m lightning_r1v3.data.verify SHARDS…` counts what they hold and names every bad sample.

Exit status 0 when every sample is good, 1 when any is bad, 2 when no shard is found.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence

from lightning_r1v3.data.census import Census, take_census
from lightning_r1v3.data.pictures import MAX_IMAGE_PIXELS, check_max_image_pixels
from lightning_r1v3.data.shard_paths import expand_paths

_DUPLICATES_SHOWN = 5


def report(census: Census) -> str:
    """Returns the counts as aligned text, the bad samples last."""
    return "\n".join(_lines(census)) + "\n"


def _lines(census: Census) -> Iterator[str]:
    yield f"{census.num_samples} good samples in {census.num_shards} shards, {len(census.faults)} bad"
    for name, counter in census.counts.items():
        yield f"\n{name.replace('_', ' ')}"
        yield from _table(dict(counter.most_common()))
    if census.sizes:
        yield "\nimage size, pixels: min, median, max"
        yield from _table(
            {name: "  ".join(f"{value:>10,.0f}" for value in of.values()) for name, of in census.image_sizes().items()}
        )
    for name, groups in census.duplicates().items():
        yield f"\n{name}: {len(groups)}"
        yield from ("  " + " = ".join(places) for places in groups[:_DUPLICATES_SHOWN])
        if len(groups) > _DUPLICATES_SHOWN:
            yield f"  … and {len(groups) - _DUPLICATES_SHOWN} more (--json has all)"
    yield f"\nbad: {len(census.faults)}"
    yield from (f"  {fault}" for fault in census.faults)


def _table(rows: Mapping[str, object]) -> Iterator[str]:
    width = max(map(len, rows), default=0)
    return (f"  {name:<{width}}  {value:>7}" for name, value in rows.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lightning_r1v3.data.verify", description="Checks shards.")
    parser.add_argument("shards", nargs="+", help="paths, globs or brace patterns of local tar files")
    parser.add_argument("--json", action="store_true", help="print JSON, with every duplicate")
    parser.add_argument("--max-image-pixels", type=int, default=MAX_IMAGE_PIXELS, help="default %(default)s")
    options = parser.parse_args(arguments)
    try:
        check_max_image_pixels(options.max_image_pixels)
        shards = expand_paths(options.shards)
    except ValueError as error:
        parser.error(str(error))
    census = take_census(shards, options.max_image_pixels)
    sys.stdout.write(
        json.dumps(census.as_dict(), indent=2, ensure_ascii=False) + "\n" if options.json else report(census)
    )
    return 1 if census.faults else 0


if __name__ == "__main__":
    sys.exit(main())
