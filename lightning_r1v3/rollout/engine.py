"""The interface of everything that draws completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lightning_r1v3.types import Example, RolloutBatch, Sampling


class RolloutEngine(Protocol):
    """Draws completions of prompts."""

    def generate(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> RolloutBatch:
        """Returns `sampling.group_size` completions of each prompt.

        Args:
            prompts: Their completions are ignored.
            sampling: How to draw; with `step` and the prompts' ids it fixes the result.
            step: Optimizer step, so that a prompt met again gets other draws.
        """
        ...

    def close(self) -> None:
        """Frees what the engine holds."""
        ...
