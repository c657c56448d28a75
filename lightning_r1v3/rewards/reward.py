"""What a reward returns, and what a reward of the user's own must look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from lightning_r1v3.types import Sample


@dataclass(frozen=True)
class RewardBatch:
    """The rewards of one batch of completions, with the parts that they are made of."""

    reward: Tensor
    """float32 `[B]`: what the policy is trained on."""
    accuracy: Tensor
    """float32 `[B]`: 1 where the final answer is right, else 0."""
    format: Tensor
    """float32 `[B]`: 1 where the completion has the wanted form, else 0."""
    status: tuple[str, ...]
    """Per completion `ok`, `timeout` or `error`; the last two count as wrong."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Numbers of completions for the log, e.g. `rule_timeout`, `judge_asked`, `judge_unavailable`."""


@runtime_checkable
class RewardFunction(Protocol):
    """A reward that a config may name by class path; its constructor's arguments become config keys."""

    def score(self, completions: Sequence[str], samples: Sequence[Sample], *, think_opened: bool) -> RewardBatch:
        """Returns the rewards of `completions`, in order.

        Args:
            completions: B texts generated after the prompts.
            samples: B samples that they answer, one per completion.
            think_opened: True when the prompts end in `<think>`.
        """
        ...

    def close(self) -> Any:  # jsonargparse reads None differently where hints are not postponed
        """Frees processes and connections; called once at the end."""
        ...
