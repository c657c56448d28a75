"""The model, the prompts and the pictures of the GRPO benchmarks, written once for both sides.

A randomly initialised InternVL of about 20 M parameters with a tokenizer that fills its vocabulary, and problems of the
mini world. The peer reads the same prompts and pictures, in the order in which our datamodule reads its shards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from random_model import VOCABULARY, random_internvl
from transformers import ProcessorMixin

from lightning_r1v3.data.mini.processor import build_processor
from lightning_r1v3.data.mini.world import generate
from lightning_r1v3.data.order import SampleOrder
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.data.shard_set import ShardSet
from lightning_r1v3.data.writer import ShardWriter
from lightning_r1v3.types import Sample

SEED = 0
PROMPT = PromptFormat(system_prompt=None, prompt_opens_think=False)
PATCH = 14
PIXELS_PER_TOKEN = 2 * PATCH
"""Four patches become one token."""


@dataclass(frozen=True)
class Episodes:
    """What a run trains on."""

    num_steps: int
    """Episodes, one gradient step each."""
    num_prompts: int
    """Of an episode."""
    group_size: int
    """Completions of a prompt."""
    pixels: int
    """Side of a picture."""
    num_new_tokens: int = 64
    """Of every completion, no more and no fewer: the end of turn is never drawn."""
    learning_rate: float = 1e-5

    @property
    def image_tokens(self) -> int:
        """Of a picture."""
        return (self.pixels // PIXELS_PER_TOKEN) ** 2


def write_inputs(folder: Path, episodes: Episodes) -> None:
    """Writes `model/`, `train-000000.tar`, `rows.jsonl` and the rows' pictures."""
    processor = _processor(episodes)
    random_internvl(processor, pixels=episodes.pixels, patch=PATCH, seed=SEED).save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    with ShardWriter(folder, "train") as writer:
        for sample in _samples(episodes):
            writer.write_sample(sample)
    _write_rows(folder)


def _processor(episodes: Episodes) -> ProcessorMixin:
    """The mini world's, for larger pictures, with a plain token for every row of the output layer."""
    processor = build_processor()
    processor.image_processor.size = {"height": episodes.pixels, "width": episodes.pixels}
    processor.image_seq_length = episodes.image_tokens
    known = len(processor.tokenizer)
    processor.tokenizer.add_tokens([f"word{number}" for number in range(known, VOCABULARY)])
    return processor


def _samples(episodes: Episodes) -> Iterator[Sample]:
    problems = generate("train", episodes.num_steps * episodes.num_prompts, SEED, style="problem")
    side = (episodes.pixels, episodes.pixels)
    for problem in problems:
        yield replace(problem, images=tuple(image.resize(side) for image in problem.images))


def _write_rows(folder: Path) -> None:
    shards = ShardSet(str(folder / "train-*.tar"))
    with (folder / "rows.jsonl").open("w") as rows:
        for number in SampleOrder([len(shards)], seed=SEED).epoch(0):
            sample = shards[number]
            picture = folder / f"{sample.id}.png"
            sample.images[0].save(picture)
            row = {"prompt": [{"role": "user", "content": _text(sample)}], "images": [str(picture)]}
            rows.write(json.dumps(row) + "\n")


def _text(sample: Sample) -> str:
    """The question without its picture, which TRL puts in front."""
    (turn,) = PROMPT.messages(sample)
    image, text = turn["content"]
    assert image["type"] == "image"
    return str(text["text"])
