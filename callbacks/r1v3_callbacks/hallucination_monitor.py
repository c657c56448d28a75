"""Chains that claim not to see the image, and what they are worth (paper 6.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lightning import LightningModule, Trainer

from r1v3_callbacks.claims import CLAIMS, ClaimCounts, ClaimFinder, count_claims
from r1v3_callbacks.contract import Keys, completions, entries, tokenizer_of
from r1v3_callbacks.step_callback import Stage, StepCallback


class HallucinationMonitor(StepCallback):
    """Logs the share of completions that claim not to see the image, and the accuracy of those and of the others.

    `train/hallucination/reasoning`, `…/answer` and `…/any` are shares of the step's completions;
    `…/accuracy_claiming` and `…/accuracy_others` (table 5) are over the last steps together, because claims are rare.
    """

    def __init__(
        self,
        claims: Sequence[str] = CLAIMS,
        reasoning_end: str = "</think>",
        window_steps: int = 50,
        stages: Sequence[Stage] = ("train",),
        keys: Keys | None = None,
    ) -> None:
        """Stores the settings.

        Args:
            claims: Regular expressions.
            reasoning_end: What stands between reasoning and answer.
            window_steps: Steps that the accuracies are taken over.
            stages: Steps to look at; `val` needs a `validation_step` that returns the same dict, as `val/…`.
            keys: Names of the entries of the dict that the step returns, and of the tokenizer.

        Raises:
            ValueError: A pattern is no regular expression, or there is no step to look at.
        """
        super().__init__(keys, stages)
        if window_steps < 1 or not reasoning_end:
            raise ValueError(
                f"expected window_steps of at least 1 and some reasoning_end, got {window_steps}, {reasoning_end!r}"
            )
        self.reasoning_end = reasoning_end
        self.window_steps = window_steps
        self._finder = ClaimFinder(claims)
        self._window: list[ClaimCounts] = []

    def read(self, trainer: Trainer, pl_module: LightningModule, outputs: Mapping[str, Any]) -> ClaimCounts:
        """Returns the counts of a micro-batch."""
        names = (self.keys.token_ids, self.keys.token_mask, self.keys.accuracy)
        token_ids, mask, accuracy = entries(outputs, names, "HallucinationMonitor")
        tokenizer = tokenizer_of(pl_module, self.keys.tokenizer, "HallucinationMonitor")
        # A process without a completion returns one of no token.
        texts = [text for _, text in completions(token_ids, mask, tokenizer)][: len(accuracy)]
        return count_claims(self._finder, texts, accuracy.tolist(), reasoning_end=self.reasoning_end)

    def on_step(self, trainer: Trainer, pl_module: LightningModule, parts: list[ClaimCounts]) -> None:
        """Logs the step."""
        step = sum(parts, ClaimCounts())
        self._window = [*self._window, step][-self.window_steps :]
        pl_module.log_dict(_metrics("train", step, sum(self._window, ClaimCounts())))

    def on_validation_run(self, trainer: Trainer, pl_module: LightningModule, parts: list[ClaimCounts]) -> None:
        """Logs the run of validation."""
        total = sum(parts, ClaimCounts())
        pl_module.log_dict(_metrics("val", total, total), sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        """Returns the counts of the last steps."""
        return super().state_dict() | {"window": [asdict(counts) for counts in self._window]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up again."""
        super().load_state_dict(state_dict)
        self._window = [ClaimCounts(**counts) for counts in state_dict["window"]]


def _metrics(stage: str, step: ClaimCounts, window: ClaimCounts) -> dict[str, float]:
    values = step.shares() | window.accuracies()
    return {f"{stage}/hallucination/{name}": value for name, value in values.items()}
