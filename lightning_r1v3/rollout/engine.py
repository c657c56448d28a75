"""The interface of everything that draws completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.types import Example, RolloutBatch, Sampling, SyncReport


@runtime_checkable
class RolloutEngine(Protocol):
    """Draws completions of prompts from the policy that it was last synced with."""

    def sync(self, backbone: Backbone, *, policy_version: int = 0) -> SyncReport:
        """Takes over the backbone's present weights; the first call also starts the engine. All ranks must reach this.

        Args:
            backbone: The policy.
            policy_version: Optimizer steps that made its weights; rollouts carry it.
        """
        ...

    def generate(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> RolloutBatch:
        """Returns `sampling.group_size` completions of each prompt.

        Args:
            prompts: Their completions are ignored.
            sampling: How to draw; with `step` and the prompts' ids it fixes the result.
            step: Optimizer step, so that a prompt met again gets other draws.
        """
        ...

    def close(self) -> Any:  # jsonargparse reads None differently where hints are not postponed
        """Frees what the engine holds."""
        ...


@runtime_checkable
class AheadEngine(RolloutEngine, Protocol):
    """An engine that can draw while the trainer trains."""

    @property
    def draws_ahead(self) -> bool:
        """Whether it can as it is set up."""
        ...

    def prefetch(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> Any:
        """Starts to draw what a later `generate` will ask for, with the weights of the last sync; returns at once.

        Args:
            prompts: As in `generate`.
            sampling: Likewise.
            step: That of the later call.
        """
        ...
