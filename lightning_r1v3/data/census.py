"""Counts over shards: what they hold, how often, and what is wrong with it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from lightning_r1v3.data.faults import Fault
from lightning_r1v3.data.members import Group, group_sample, image_bytes
from lightning_r1v3.data.pictures import MAX_IMAGE_PIXELS, PictureHeader, read_header
from lightning_r1v3.data.shard_index import index_shard
from lightning_r1v3.types import Sample

NO_VALUE = "(none)"


@dataclass
class Census:
    """What was counted so far."""

    num_shards: int = 0
    """Shards read."""
    num_samples: int = 0
    """Good samples."""
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Samples by source, domain, difficulty, answer type, response and number of images; images by mode."""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """Width and height of each image, pixels, as stored."""
    places_by_id: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Where samples of the same `id` stand: shard and key."""
    places_by_problem: dict[bytes, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Where samples of the same question, options and pictures stand."""
    faults: list[Fault] = field(default_factory=list)
    """Every bad sample, member and shard."""

    def add(self, place: str, sample: Sample, headers: Sequence[PictureHeader]) -> None:
        """Counts one good sample."""
        self.num_samples += 1
        self.counts["source"][sample.source or NO_VALUE] += 1
        self.counts["domain"][sample.domain or NO_VALUE] += 1
        self.counts["difficulty"][sample.difficulty or NO_VALUE] += 1
        self.counts["answer_type"]["fill-in" if sample.choices is None else "multiple choice"] += 1
        self.counts["response"]["without" if sample.response is None else "with"] += 1
        self.counts["images_per_sample"][str(len(headers))] += 1
        self.counts["image_mode"].update(header.mode for header in headers)
        self.sizes.extend((header.width, header.height) for header in headers)
        self.places_by_id[sample.id].append(place)
        self.places_by_problem[_problem_digest(sample)].append(place)

    def duplicates(self) -> dict[str, list[list[str]]]:
        """Returns the places that share an id, and those that share question, options and pictures."""
        return {
            "same id": [places for places in self.places_by_id.values() if len(places) > 1],
            "same question and pictures": [places for places in self.places_by_problem.values() if len(places) > 1],
        }

    def image_sizes(self) -> dict[str, dict[str, float]]:
        """Returns the least, median and largest width, height and area of the images, in pixels."""
        columns = {
            "width": [width for width, _ in self.sizes],
            "height": [height for _, height in self.sizes],
            "area": [width * height for width, height in self.sizes],
        }
        return {
            name: {"min": min(values), "median": median(values), "max": max(values)}
            for name, values in columns.items()
            if values
        }

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as plain lists, dicts and numbers."""
        return {
            "shards": self.num_shards,
            "samples": self.num_samples,
            **{name: dict(counter.most_common()) for name, counter in self.counts.items()},
            "image_size": self.image_sizes(),
            "duplicates": self.duplicates(),
            "bad": [vars(fault) for fault in self.faults],
        }


def take_census(shards: Sequence[Path], max_image_pixels: int = MAX_IMAGE_PIXELS) -> Census:
    """Reads and decodes every sample of the shards once."""
    census = Census(num_shards=len(shards))
    for path in shards:
        index = index_shard(path)
        census.faults.extend(index.faults)
        for number in range(len(index)):
            _count(census, path, index.read(number), max_image_pixels)
    return census


def _count(census: Census, path: Path, group: Group, max_image_pixels: int) -> None:
    try:
        sample = group_sample(group, max_image_pixels)
    except ValueError as error:
        census.faults.append(Fault(str(path), group.key, str(error)))
        return
    census.add(f"{path}: {group.key}", sample, [read_header(encoded) for encoded in image_bytes(group)])


def _problem_digest(sample: Sample) -> bytes:
    digest = hashlib.sha256(repr((sample.question, sample.choices)).encode())
    for image in sample.images:
        digest.update(repr(image.size).encode() + image.tobytes())
    return digest.digest()
