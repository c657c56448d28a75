"""The model and the samples of the SFT benchmark, written once for both sides.

A randomly initialised InternVL of about 20 M parameters, and fill-in problems of the mini world whose chains are strung
together until prompt and completion have between `SHORTEST` and eight times as many tokens together, evenly spread. The
peer reads the same prompts, completions and pictures, in the order in which our datamodule reads its shards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from random import Random

import torch
from random_model import random_internvl
from transformers import ProcessorMixin

from lightning_r1v3.data.mini.drawing import CANVAS
from lightning_r1v3.data.mini.processor import build_processor
from lightning_r1v3.data.mini.world import generate
from lightning_r1v3.data.order import SampleOrder
from lightning_r1v3.data.preprocess import Preprocessor
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.data.shard_set import ShardSet
from lightning_r1v3.data.writer import ShardWriter
from lightning_r1v3.types import Sample

SEED = 0
BATCH_SIZE = 16
NUM_STEPS = 10
SHORTEST, SPREAD = 40, 8
PROMPT = PromptFormat(system_prompt=None, prompt_opens_think=False)
PATCH = 8


def write_inputs(folder: Path) -> None:
    """Writes `model/`, `train-000000.tar`, `rows.jsonl` and the rows' pictures."""
    processor = build_processor()
    random_internvl(processor, pixels=CANVAS, patch=PATCH, seed=SEED).save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    with ShardWriter(folder, "train") as writer:
        for sample in _samples(processor):
            writer.write_sample(sample)
    _write_rows(folder, Preprocessor(processor, PROMPT))


def _samples(processor: ProcessorMixin) -> Iterator[Sample]:
    num_samples = NUM_STEPS * BATCH_SIZE
    lengths = torch.linspace(SHORTEST, SPREAD * SHORTEST, num_samples).round().int().tolist()
    Random(SEED).shuffle(lengths)
    # Fill-in questions are the short ones: at most 37 tokens, so that the shortest length has room for a completion.
    generated = generate("train", 3 * num_samples, SEED, style="chain")
    problems = [problem for problem in generated if problem.choices is None][:num_samples]
    chains = cycle(problem.response for problem in problems)
    preprocessor = Preprocessor(processor, PROMPT)
    for problem, length in zip(problems, lengths, strict=True):
        room = length - len(preprocessor(replace(problem, response="")).prompt_ids)
        ids: list[int] = []
        while len(ids) < room:
            ids += processor.tokenizer(next(chains) + "\n", add_special_tokens=False)["input_ids"]
        yield replace(problem, response=processor.tokenizer.decode(ids[: room - 1]))


def _write_rows(folder: Path, preprocessor: Preprocessor) -> None:
    shards = ShardSet(str(folder / "train-*.tar"))
    end_of_turn = preprocessor.processor.tokenizer.eos_token
    with (folder / "rows.jsonl").open("w") as rows:
        for number in SampleOrder([len(shards)], seed=SEED).epoch(0):
            sample = shards[number]
            picture = folder / f"{sample.id}.png"
            sample.images[0].save(picture)
            row = {"prompt": preprocessor.prompt_text(sample), "completion": sample.response + end_of_turn}
            rows.write(json.dumps({**row, "images": [str(picture)]}) + "\n")
