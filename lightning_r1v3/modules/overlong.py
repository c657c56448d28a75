"""What becomes of completions that are too long: left out of the loss, or paid less (DAPO, 2503.14476, 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Overlong:
    """Settings for long completions; by default they count like any other, as in the paper."""

    filter: bool = False
    """Leave truncated completions out of the loss; they still count in their group's advantages."""
    penalty_tokens: int = 0
    """The last tokens before `max_new_tokens`, over which the reward falls linearly; 0 for no penalty."""
    penalty: float = 1.0
    """What a completion of `max_new_tokens` loses."""

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: A number is negative.
        """
        if self.penalty_tokens < 0 or self.penalty < 0:
            raise ValueError(
                f"overlong: expected penalty_tokens and penalty of at least 0, got {self.penalty_tokens}, "
                f"{self.penalty}"
            )

    def penalties(self, lengths: Tensor, max_new_tokens: int) -> Tensor:
        """Returns float32 `[B]` in [0, penalty], to be taken off the rewards.

        Args:
            lengths: int64 `[B]`, tokens of each completion.
            max_new_tokens: Longest completion.
        """
        if not self.penalty_tokens:
            return lengths.new_zeros(lengths.shape).float()
        over = lengths - (max_new_tokens - self.penalty_tokens)
        return self.penalty * (over / self.penalty_tokens).clamp(0.0, 1.0)
