"""The checkpoints that a collapsing run goes back to: written while it is healthy, trusted once it stayed so."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Trainer

from r1v3_callbacks.checkpoint_files import on_rank_zero, remove, write_aside
from r1v3_callbacks.ranks import gather
from r1v3_callbacks.recovery import load_weights, save_weights


class Snapshots:
    """Two or three checkpoints in a folder, the oldest of which is old enough to be good."""

    def __init__(self, trial_steps: int) -> None:
        """Starts with none.

        Args:
            trial_steps: Steps after which a checkpoint counts as good.
        """
        self.trial_steps = trial_steps
        self.folder = Path()
        self.taken: list[dict[str, Any]] = []

    def open(self, folder: Path, trainer: Trainer) -> None:
        """Takes up those that are still in the folder; all processes must reach this."""
        self.folder = gather(folder, trainer)[0]
        present = [shot for shot in self.taken if (self.folder / shot["file"]).exists()]
        self.taken = gather(present, trainer)[0]

    def take(self, trainer: Trainer, step: int, memory: Mapping[str, Any]) -> None:
        """Writes one, and removes those that a better one makes superfluous; all processes must reach this.

        Args:
            trainer: Whose weights and optimizer state.
            step: Optimizer steps that the detector has seen.
            memory: What is to be remembered with it.
        """
        path = self.folder / f"step={step:06d}.ckpt"
        made = on_rank_zero(lambda: self.folder.mkdir(parents=True, exist_ok=True), self.folder, trainer)
        if not made or not write_aside(lambda aside: save_weights(trainer, aside), path, trainer):
            return
        self.taken = [*self._others(step), {"file": path.name, "step": step, "memory": dict(memory)}]
        good = self._good(step)
        superfluous = [shot for shot in self.taken if good is not None and shot["step"] < good["step"]]
        self._drop(superfluous, trainer)

    def restore(self, trainer: Trainer, step: int) -> dict[str, Any] | None:
        """Goes back to the last good one, and drops those after it; all processes must reach this.

        Args:
            trainer: Whose weights and optimizer state.
            step: Optimizer steps that the detector has seen.

        Returns:
            Its `step` and `memory`; None where there is none.
        """
        good = self._good(step) or next(iter(self.taken), None)
        if good is None:
            return None
        load_weights(trainer, self.folder / good["file"])
        self._drop([shot for shot in self.taken if shot["step"] > good["step"]], trainer)
        return good

    def _others(self, step: int) -> list[dict[str, Any]]:
        return [shot for shot in self.taken if shot["step"] != step]

    def _good(self, step: int) -> dict[str, Any] | None:
        old_enough = [shot for shot in self.taken if shot["step"] <= step - self.trial_steps]
        return old_enough[-1] if old_enough else None

    def _drop(self, shots: list[dict[str, Any]], trainer: Trainer) -> None:
        dropped = [shot["step"] for shot in shots]
        self.taken = [shot for shot in self.taken if shot["step"] not in dropped]
        for shot in shots:
            on_rank_zero(partial(remove, self.folder / shot["file"]), self.folder, trainer)
