"""Completions of problems by the model itself, graded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_r1v3.rewards.reward import RewardFunction
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
    engine: RolloutEngine, reward: RewardFunction, tokenizer: Any, prompts: Sequence[Example], sampling: Sampling
) -> Iterator[Completion]:
    """Yields the graded completions of some problems, prompt by prompt; the same ones for the same weights.

    Args:
        engine: What generates, synced.
        reward: What grades.
        tokenizer: Its model's.
        prompts: The problems; none gives nothing.
        sampling: How to draw; its seed and the problems' ids fix every draw.
    """
    if not prompts:
        return
    # Step 0 each time, so that runs of validation differ by the weights alone.
    rollouts = engine.generate(prompts, sampling, step=0)
    rows = zip(rollouts.token_ids.cpu(), rollouts.mask.cpu(), strict=True)
    token_ids = [ids[mask] for ids, mask in rows]
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in token_ids]
    samples = [prompt.sample for prompt in prompts for _ in range(sampling.group_size)]
    graded = reward.score(texts, samples, think_opened=prompts[0].think_opened)
    for index, text in enumerate(texts):
        yield Completion(
            sample=samples[index],
            text=text,
            num_tokens=len(token_ids[index]),
            accuracy=float(graded.accuracy[index]),
            format=float(graded.format[index]),
        )
