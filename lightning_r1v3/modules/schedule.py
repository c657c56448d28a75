"""Learning-rate schedules as a factor per training step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class Schedule:
    """How the learning rate moves; one step is one `training_step`."""

    kind: Literal["constant", "cosine"] = "constant"
    """`constant` for RL (paper 3.3); `cosine` down to `final_fraction` for supervised stages (3.4)."""
    warmup_fraction: float = 0.0
    """Share of all steps in which the rate rises from 0 (paper 3.4: 0.03)."""
    final_fraction: float = 0.0
    """Where the cosine ends, as a share of the peak."""
    drops: dict[int, float] = field(default_factory=dict)
    """From which step on the rate is multiplied by what; later ones replace earlier ones. `{500: 0.1}` takes GRPO from
    1e-5 to the 1e-6 at which it stays stable late (paper 5.4)."""

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: A fraction is outside [0, 1], or a drop is not a positive factor from a step on.
        """
        if any(step < 0 or not factor > 0 for step, factor in self.drops.items()):
            raise ValueError(f"schedule: expected drops as step: positive factor, got {self.drops}")
        if not 0 <= self.warmup_fraction <= 1 or not 0 <= self.final_fraction <= 1:
            raise ValueError(
                f"schedule: expected fractions in [0, 1], got warmup_fraction {self.warmup_fraction}, "
                f"final_fraction {self.final_fraction}"
            )

    def factor(self, step: int, total_steps: float) -> float:
        """Returns the factor of the peak learning rate for the given step, counted from 0."""
        reached = [start for start in self.drops if start <= step]
        dropped = self.drops[max(reached)] if reached else 1.0
        return dropped * self._shape(step, total_steps)

    def _shape(self, step: int, total_steps: float) -> float:
        warmup = round(self.warmup_fraction * total_steps) if self.warmup_fraction else 0
        if step < warmup:
            return (step + 1) / warmup
        if self.kind == "constant":
            return 1.0
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))

    def scheduler(self, optimizer: Optimizer, total_steps: float) -> LambdaLR:
        """Returns torch's scheduler for an optimizer.

        Args:
            optimizer: Whose rates it moves.
            total_steps: Training steps of the whole run; infinite where nothing ends it.

        Raises:
            ValueError: The schedule has a shape over the whole run, and the run has no end.
        """
        if math.isinf(total_steps) and (self.kind == "cosine" or self.warmup_fraction):
            raise ValueError(
                f"schedule: {self.kind} with warmup_fraction {self.warmup_fraction} needs the number of steps: "
                "set trainer.max_epochs or trainer.max_steps"
            )
        return LambdaLR(optimizer, lambda step: self.factor(step, total_steps))
