"""How completions are drawn as training goes on: longer and longer ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lightning_r1v3.types import Sampling


class LengthSchedule:
    """The sampling of each step."""

    def __init__(self, sampling: Sampling, max_new_tokens_at: Mapping[int, int] | None = None) -> None:
        """Stores the settings.

        Args:
            sampling: At first.
            max_new_tokens_at: From which step on completions may be how long.

        Raises:
            ValueError: A step is below 0, or a length below 1.
        """
        lengths = max_new_tokens_at or {}
        if early := [step for step in lengths if step < 0]:
            raise ValueError(f"max_new_tokens_at: expected steps from 0 on, got {early}")
        self._from = {0: sampling} | {step: replace(sampling, max_new_tokens=n) for step, n in lengths.items()}

    def at(self, step: int) -> Sampling:
        """Returns how completions are drawn after `step` optimizer steps."""
        return self._from[max(start for start in self._from if start <= step)]
