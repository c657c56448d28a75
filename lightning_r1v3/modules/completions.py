"""Completions of problems by the model itself, graded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_r1v3.rewards.exact import exact_accuracy
from lightning_r1v3.rewards.format import format_reward
from lightning_r1v3.rollout.engine import RolloutEngine
from lightning_r1v3.types import Example, Sample, Sampling


@dataclass(frozen=True)
class Completion:
    """One graded completion."""

    sample: Sample
    """The problem."""
    text: str
    """What was generated, special tokens left out."""
    num_tokens: int
    """Its length, the end-of-turn token included."""
    accuracy: float
    """1.0 when the answer is the gold one, else 0.0."""
    format: float
    """1.0 when it reads `<think>…</think>` and then an answer, else 0.0."""


def complete(
    engine: RolloutEngine, tokenizer: Any, prompts: Sequence[Example], sampling: Sampling
) -> Iterator[Completion]:
    """Yields the graded completions of some problems, prompt by prompt; the same ones for the same weights.

    Args:
        engine: What generates.
        tokenizer: Its model's.
        prompts: The problems; none gives nothing.
        sampling: How to draw; its seed and the problems' ids fix every draw.
    """
    if not prompts:
        return
    # Step 0 each time, so that runs of validation differ by the weights alone.
    rollouts = engine.generate(prompts, sampling, step=0)
    for index, (ids, mask) in enumerate(zip(rollouts.token_ids.cpu(), rollouts.mask.cpu(), strict=True)):
        prompt = prompts[index // sampling.group_size]
        text = tokenizer.decode(ids[mask], skip_special_tokens=True)
        yield Completion(
            sample=prompt.sample,
            text=text,
            num_tokens=int(mask.sum()),
            accuracy=exact_accuracy(text, prompt.sample.answer, think_opened=prompt.think_opened),
            format=format_reward(text, think_opened=prompt.think_opened),
        )
