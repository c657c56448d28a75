"""The common part of callbacks that look at every optimizer step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lightning import Callback, LightningModule, Trainer

from r1v3_callbacks.contract import Keys
from r1v3_callbacks.ranks import gather

Stage = Literal["train", "val"]

UNKNOWN_STEP = 64
"""Batches to wait for a first optimizer step under manual optimization, where nothing says how many make one."""


class StepCallback(Callback, ABC):
    """Sees one optimizer step at a time, whole: all its micro-batches, on all processes.

    `read` takes from each micro-batch what is needed, as plain numbers and lists; `on_step` gets what was read on all
    processes, in the order of the ranks, so that every process computes and decides the same. A step ends when the
    trainer's `global_step` moves, under automatic and manual optimization alike. Where the module leaves an optimizer
    step out, it ends after as many batches as the steps before it had.
    """

    def __init__(self, keys: Keys | None, stages: Sequence[Stage] = ("train",)) -> None:
        """Stores the settings.

        Args:
            keys: Names of the entries; the default ones for None.
            stages: What to look at.

        Raises:
            ValueError: There is nothing to look at, or it is unknown.
        """
        if not stages or not set(stages) <= {"train", "val"}:
            raise ValueError(f"stages: expected train, val or both, got {list(stages)}")
        self.keys = keys or Keys()
        self.stages = tuple(stages)
        self._val_parts: list[Any] = []
        self._parts: list[Any] = []
        self._num_waiting = 0
        self._num_since_step = 0
        self._batches_per_step = UNKNOWN_STEP
        self._global_step = 0
        self._has_read = False

    @abstractmethod
    def read(self, trainer: Trainer, pl_module: LightningModule, outputs: Mapping[str, Any]) -> Any:
        """Returns what is needed of this process's micro-batch."""

    @abstractmethod
    def on_step(self, trainer: Trainer, pl_module: LightningModule, parts: list[Any]) -> None:
        """Called after each optimizer step with what was read of it on all processes; the same on each of them."""

    def on_validation_run(self, trainer: Trainer, pl_module: LightningModule, parts: list[Any]) -> None:
        """Called after each run of validation with what was read of it on all processes."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes where the run starts."""
        self._global_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Reads the micro-batch and, where it ends a step, calls `on_step`.

        Raises:
            ValueError: The first step returned nothing; a later None means that its batch was left out.
        """
        if "train" not in self.stages:
            return
        if outputs or not self._has_read:
            self._parts.append(self.read(trainer, pl_module, self._mapping(outputs)))
            self._has_read = True
        if self._step_has_ended(trainer.global_step, automatic=pl_module.automatic_optimization):
            parts = [part for read in gather(self._parts, trainer) for part in read]
            self._parts = []
            self.on_step(trainer, pl_module, parts)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts a run of validation."""
        self._val_parts = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Reads the batch where validation is looked at."""
        if "val" in self.stages:
            self._val_parts.append(self.read(trainer, pl_module, self._mapping(outputs)))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calls `on_validation_run` where validation is looked at; all processes must reach this."""
        if "val" in self.stages:
            self.on_validation_run(
                trainer, pl_module, [part for read in gather(self._val_parts, trainer) for part in read]
            )

    def state_dict(self) -> dict[str, Any]:
        """Returns how many batches make a step."""
        return {"batches_per_step": self._batches_per_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it up again."""
        self._batches_per_step = state_dict["batches_per_step"]

    def _mapping(self, outputs: Any) -> Mapping[str, Any]:
        if isinstance(outputs, Mapping):
            return outputs
        return {} if outputs is None else {self.keys.loss: outputs}

    def _step_has_ended(self, global_step: int, *, automatic: bool) -> bool:
        self._num_waiting += 1
        self._num_since_step += 1
        moved = global_step != self._global_step
        if moved:
            if self._batches_per_step == UNKNOWN_STEP:
                self._batches_per_step = self._num_since_step
            self._global_step, self._num_since_step = global_step, 0
        # Under automatic optimization the last step of an epoch may have fewer batches, and none is left out.
        usual = self._batches_per_step
        left_out = not automatic and self._num_since_step > usual and self._num_waiting >= usual
        if moved or left_out:
            self._num_waiting = 0
        return moved or left_out
