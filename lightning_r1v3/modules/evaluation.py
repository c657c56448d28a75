"""How validation draws completions."""

from __future__ import annotations

from dataclasses import dataclass, field

from lightning_r1v3.types import Sampling


@dataclass(frozen=True)
class Evaluation:
    """Settings of the completions that a validation run generates and grades."""

    sampling: Sampling = field(default_factory=Sampling)
    """How to draw; the paper evaluates at temperature 1.0, 16,384 new tokens, and takes the mean of 5 (section 4)."""
    num_problems: int = 256
    """Problems to generate for over all ranks, the first of the validation set; 0 for none."""
    num_shown: int = 2
    """Completions shown in the log each time, so that one can see the model think."""

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: A number is negative.
        """
        if self.num_problems < 0 or self.num_shown < 0:
            raise ValueError(
                f"evaluation: expected numbers of at least 0, got num_problems {self.num_problems}, "
                f"num_shown {self.num_shown}"
            )
