"""Some completions of every episode, kept for later reading."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_r1v3.modules.episode import Episode

FILE_NAME = "rollouts.jsonl"


def rollout_lines(
    episode: Episode, logprobs: Mapping[int, Tensor], entropies: Mapping[int, Tensor], *, tokenizer: Any, count: int
) -> list[dict[str, Any]]:
    """Returns the episode's first completions as JSON objects.

    Args:
        episode: Whose completions.
        logprobs: float32 `[length]` nats by index of the completion: of its tokens, under the policy before the step.
        entropies: Likewise: of the distributions that they were drawn from.
        tokenizer: Decodes the single tokens.
        count: At most so many.
    """
    return [
        {
            "id": sample.id,
            "question": sample.question,
            "answer": sample.answer,
            "completion": episode.texts[index],
            "tokens": [tokenizer.decode([token]) for token in episode.completions[index].tolist()],
            "entropies": _rounded(entropies[index]),
            "logprobs": _rounded(logprobs[index]),
            "reward": float(episode.rewards.reward[index]),
            "accuracy": float(episode.rewards.accuracy[index]),
            "format": float(episode.rewards.format[index]),
            "finish_reason": episode.finish_reason[index],
            "policy_version": episode.policy_version,
        }
        for index in range(min(count, len(episode.texts)))
        for sample in [episode.prompts[index // episode.group_size].sample]
    ]


def append_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Appends objects to a file, one a line; its folder is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]
