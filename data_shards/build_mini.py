"""Builds the mini world's shards.

`--what ship` makes what the repository carries in `data_shards/mini/`; `--what pretrain` makes the captions and short
answers that the tiny model learns to see from, which are not shipped. Both are pure functions of the seeds below.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from PIL import Image

from lightning_r1v3.data.mini import DOMAINS, SCIENCES, generate, guess_accuracy
from lightning_r1v3.data.mini.posing import Split
from lightning_r1v3.data.mini.world import Difficulty, Style
from lightning_r1v3.types import Sample

SHIPPED = Path(__file__).parent / "mini"
SAMPLES_PER_SHARD = 2048
MAX_COLOURS = 256
KNOWN_PROBLEMS = 2000


@dataclass(frozen=True)
class Part:
    """Samples of one split, difficulty and style that go into a shard set."""

    split: Split
    difficulty: Difficulty
    style: Style
    count: int
    """Number of samples, spread evenly over the domains."""
    domains: tuple[str, ...]
    seed: int

    def samples(self) -> Iterator[Sample]:
        """Returns the part's samples."""
        return generate(
            self.split, self.count, self.seed, domains=self.domains, difficulty=self.difficulty, style=self.style
        )


MATHEMATICS, ALL = ("mathematics",), tuple(DOMAINS)

SHIP: dict[str, tuple[Part, ...]] = {
    "sft": (
        Part("train", "normal", "chain", 1152, SCIENCES, seed=1),
        Part("train", "hard", "chain", 384, SCIENCES, seed=1),
        Part("train", "normal", "mimicry", 384, SCIENCES, seed=9),
        Part("train", "hard", "mimicry", 128, SCIENCES, seed=9),
    ),
    "rl": (
        Part("train", "normal", "problem", 614, MATHEMATICS, seed=2),
        Part("train", "hard", "problem", 410, MATHEMATICS, seed=2),
    ),
    "val": (
        Part("val", "normal", "chain", 600, SCIENCES, seed=3),
        Part("val", "hard", "chain", 200, SCIENCES, seed=3),
    ),
    "connector": (Part("train", "normal", "chain", 800, ALL, seed=4),),
    "val_domains": (Part("test", "normal", "chain", 400, ALL, seed=5),),
}
"""The shipped shard sets: cold start, reinforcement learning, validation, connector tuning and its validation."""


PRETRAIN_STYLES: dict[Style, float] = {"caption": 0.6, "answer": 0.4}
INSTRUCT_STYLES: dict[Style, float] = {"solution": 0.7, "caption": 0.2, "answer": 0.1}
"""What the tiny VLM first learns to see from, and then to calculate briefly from."""


def training(styles: dict[Style, float], count: int, seed: int) -> tuple[Part, ...]:
    """Returns the parts of `count` training samples of the base: 70 % from the sciences, a quarter hard."""
    difficulties: dict[Difficulty, float] = {"normal": 0.75, "hard": 0.25}
    subjects = {SCIENCES: 0.7, ALL: 0.3}
    return tuple(
        Part("train", difficulty, style, round(count * style_share * subject_share * share), domains, seed + offset)
        for style, style_share in styles.items()
        for offset, (domains, subject_share) in enumerate(subjects.items())
        for difficulty, share in difficulties.items()
    )


def encode_png(image: Image.Image) -> bytes:
    """Returns the picture as a palette PNG, pixel for pixel the same and at most 512 bytes: one block of a tar."""
    colours = image.getcolors(MAX_COLOURS)
    assert colours is not None, "pictures of the mini world have a handful of colours"
    buffer = io.BytesIO()
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=len(colours))
    palette.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def encode_json(sample: Sample) -> bytes:
    """Returns everything but the picture, fields without a value left out."""
    names = ("id", "question", "answer", "choices", "response", "domain", "difficulty", "source")
    fields = {name: value for name in names if (value := getattr(sample, name)) is not None}
    return json.dumps(fields, ensure_ascii=False).encode()


def write_shard(path: Path, samples: Sequence[Sample]) -> None:
    """Writes one tar, byte for byte the same every time."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard:
        for sample in samples:
            for extension, content in (("json", encode_json(sample)), ("0.png", encode_png(sample.images[0]))):
                member = tarfile.TarInfo(f"{sample.id}.{extension}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))


def known_problems() -> list[Sample]:
    """Returns the problems that the blind guesser of the manifest has seen: none of them is in a shard."""
    return [
        sample
        for difficulty in get_args(Difficulty)
        for sample in generate("train", KNOWN_PROBLEMS, 0, difficulty=difficulty, style="problem")
    ]


def build(name: str, parts: Sequence[Part], folder: Path, known: Sequence[Sample]) -> dict[str, object]:
    """Writes `NAME-00000.tar` … into `folder`; returns its entry of the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = [sample for part in parts for sample in part.samples()]
    asked = [sample for sample in samples if not sample.source.endswith("caption")]
    hashes = {}
    for number, start in enumerate(range(0, len(samples), SAMPLES_PER_SHARD)):
        path = folder / f"{name}-{number:05d}.tar"
        write_shard(path, samples[start : start + SAMPLES_PER_SHARD])
        hashes[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        sys.stdout.write(f"{path}: {min(start + SAMPLES_PER_SHARD, len(samples))} of {len(samples)} samples\n")
    return {
        "samples": len(samples),
        "normal": sum(sample.difficulty == "normal" for sample in samples),
        "hard": sum(sample.difficulty == "hard" for sample in samples),
        "multiple_choice": sum(sample.choices is not None for sample in samples),
        "domains": len({sample.domain for sample in samples}),
        "guess_accuracy": round(guess_accuracy(asked, known), 4),
        "sha256": hashes,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Builds the shard sets asked for and the manifest beside them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--what", choices=("ship", "pretrain", "instruct"), required=True)
    parser.add_argument("--out", type=Path, help="folder for the shards; with `ship` default data_shards/mini")
    parser.add_argument("--count", type=int, default=30_000, help="number of samples of pretrain and instruct")
    options = parser.parse_args(arguments)
    if options.what != "ship" and options.out is None:
        parser.error(f"--what {options.what} is not shipped and needs --out, e.g. runs/mini_{options.what}/shards")
    folder = options.out or SHIPPED
    base = {
        "pretrain": training(PRETRAIN_STYLES, options.count, seed=6),
        "instruct": training(INSTRUCT_STYLES, options.count, seed=8),
    }
    sets = SHIP if options.what == "ship" else {options.what: base[options.what]}
    known = known_problems()
    manifest = {name: build(name, parts, folder, known) for name, parts in sets.items()}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
