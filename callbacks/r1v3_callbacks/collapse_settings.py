"""How the collapse detector decides and recovers, as it stands in a YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["warn", "reduce_lr", "rollback", "stop"]
"""What an alarm leads to, from the mildest to the strongest."""

ACTIONS: tuple[Action, ...] = ("warn", "reduce_lr", "rollback", "stop")


@dataclass(frozen=True)
class Timing:
    """When an alarm is raised, in optimizer steps."""

    warmup_steps: int = 10
    """First steps, without an alarm."""
    patience: int = 3
    """Bad steps in a row that raise an alarm, and good ones that lower it."""
    num_reference: int = 50
    """Steps, at most, that tell how things were."""
    quiet_steps: int = 10
    """Without an alarm after the learning rate was lowered or the run went back."""

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: A number is out of its range.
        """
        if min(self.patience, self.num_reference) < 1 or min(self.warmup_steps, self.quiet_steps) < 0:
            raise ValueError(
                f"timing: expected patience and num_reference of at least 1, the others of at least 0: {self}"
            )


@dataclass(frozen=True)
class Recovery:
    """How a run goes back or slows down."""

    lr_factor: float = 0.3
    """Of every learning rate, each time."""
    every_n_steps: int = 20
    """Optimizer steps between the checkpoints to go back to; only healthy steps make one."""
    trial_steps: int = 20
    """Steps that must have followed a checkpoint without an alarm before it counts as good."""
    max_rollbacks: int = 3
    """After these the run stops."""
    dirpath: str | None = None
    """Folder of these checkpoints; by default `collapse` in the run's. Two or three are there at a time."""

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: A number is out of its range.
        """
        if not 0 < self.lr_factor < 1 or self.every_n_steps < 1 or min(self.trial_steps, self.max_rollbacks) < 0:
            raise ValueError(
                f"recovery: expected lr_factor in (0, 1), every_n_steps of at least 1, the others of at least 0: {self}"
            )
