"""Entropy of critical tokens: how undecided the policy is where it starts a new thought (paper 5.1, 6.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from r1v3_callbacks.contract import Keys, completions, entries, tokenizer_of
from r1v3_callbacks.entropy_summary import BIN_WIDTH, NUM_BINS, EntropyPart, entropy_metrics, entropy_part
from r1v3_callbacks.moves import MOVES, MoveFinder
from r1v3_callbacks.step_callback import Stage, StepCallback
from r1v3_callbacks.token_offsets import TokenOffsets

MAX_SAMPLE = 10_000_000
"""Tokens beyond which `torch.quantile` refuses; the threshold is then found from the first ones."""


class CriticalTokenEntropy(StepCallback):
    """Logs the entropy at tokens that start a reasoning move, and beside it that of all tokens.

    A policy that reasons is undecided there; one that imitates the style is not (paper 5.1). Metrics, in nats:

    - `train/critical_token_entropy`: mean at critical tokens, of the distribution that the token was drawn from;
      `…/after`: mean over the next tokens; `…/q10`, `…/q50`, …: quantiles; `…/count`: number of critical tokens;
    - `train/token_entropy`: mean over all tokens;
    - `train/high_entropy_fraction`: share of tokens above a threshold (paper 6.5);
    - to TensorBoard, now and then, the histograms of both.
    """

    def __init__(
        self,
        moves: Sequence[str] = MOVES,
        num_after: int = 8,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        high_entropy: float = 6.8,
        high_entropy_quantile: float | None = None,
        histogram_every_n_steps: int = 20,
        stages: Sequence[Stage] = ("train",),
        keys: Keys | None = None,
    ) -> None:
        """Stores the settings.

        Args:
            moves: What starts a move, in any language.
            num_after: Tokens after a critical one to average over.
            quantiles: Of the entropy at critical tokens.
            high_entropy: Nats above which a token counts as highly uncertain (paper: 6.8).
            high_entropy_quantile: Takes this quantile of the first step's tokens for the threshold instead, because
                vocabularies below 900 tokens never reach 6.8 nats.
            histogram_every_n_steps: Steps between histograms; 0 for none.
            stages: Steps to look at; `val` needs a `validation_step` that returns the same dict, as `val/…`.
            keys: Names of the entries of the dict that the step returns, and of the tokenizer.

        Raises:
            ValueError: A quantile is outside [0, 1], a number negative, or there is no move.
        """
        super().__init__(keys, stages)
        asked = [*quantiles, *([] if high_entropy_quantile is None else [high_entropy_quantile])]
        if not all(0 <= quantile <= 1 for quantile in asked):
            raise ValueError(f"expected quantiles in [0, 1], got {asked}")
        if num_after < 0 or histogram_every_n_steps < 0:
            raise ValueError(
                f"expected numbers of at least 0, got num_after {num_after}, "
                f"histogram_every_n_steps {histogram_every_n_steps}"
            )
        self.num_after = num_after
        self.quantiles = tuple(quantiles)
        self.high_entropy_quantile = high_entropy_quantile
        self.histogram_every_n_steps = histogram_every_n_steps
        self._finder = MoveFinder(moves)
        self._offsets: TokenOffsets | None = None
        self._threshold = high_entropy if high_entropy_quantile is None else None
        self._num_steps = 0

    def read(self, trainer: Trainer, pl_module: LightningModule, outputs: Mapping[str, Any]) -> EntropyPart:
        """Returns the counts of a micro-batch."""
        names = (self.keys.token_entropy, self.keys.token_ids, self.keys.token_mask)
        entropy, token_ids, mask = entries(outputs, names, "CriticalTokenEntropy")
        tokenizer = tokenizer_of(pl_module, self.keys.tokenizer, "CriticalTokenEntropy")
        offsets = self._offsets = self._offsets or TokenOffsets(tokenizer.decode)
        starts = []
        for ids, text in completions(token_ids, mask, tokenizer):
            positions = list(self._finder.starts(text))
            starts.append(offsets.holders(ids, text, positions) if positions else [])
        return entropy_part(entropy, mask, starts, num_after=self.num_after, threshold=self._threshold)

    def on_step(self, trainer: Trainer, pl_module: LightningModule, parts: list[EntropyPart]) -> None:
        """Logs the step."""
        parts = self._with_threshold(parts)
        pl_module.log_dict(entropy_metrics(parts, prefix="train", quantiles=self.quantiles))
        if self.histogram_every_n_steps and self._num_steps % self.histogram_every_n_steps == 0:
            _write_histograms(trainer, parts)
        self._num_steps += 1

    def on_validation_run(self, trainer: Trainer, pl_module: LightningModule, parts: list[EntropyPart]) -> None:
        """Logs the run of validation."""
        metrics = entropy_metrics(self._with_threshold(parts), prefix="val", quantiles=self.quantiles)
        pl_module.log_dict(metrics, sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        """Returns the threshold and the number of steps."""
        return super().state_dict() | {"threshold": self._threshold, "num_steps": self._num_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up again; a threshold in nats is the configured one."""
        super().load_state_dict(state_dict)
        self._num_steps = state_dict["num_steps"]
        if self.high_entropy_quantile is not None:
            self._threshold = state_dict["threshold"]

    def _with_threshold(self, parts: list[EntropyPart]) -> list[EntropyPart]:
        """The parts with their tokens above the threshold counted; the first ones fix it where it is a quantile."""
        sample = torch.tensor([value for part in parts for value in part.sample], dtype=torch.float64)
        if not len(sample) or self.high_entropy_quantile is None:
            return parts
        if self._threshold is None:
            self._threshold = float(sample[:MAX_SAMPLE].quantile(self.high_entropy_quantile))
        limit = self._threshold
        return [
            replace(part, high_count=sum(value > limit for value in part.sample)) if part.sample else part
            for part in parts
        ]


def _write_histograms(trainer: Trainer, parts: Sequence[EntropyPart]) -> None:
    critical = torch.tensor([value for part in parts for value in part.critical])
    counts = torch.tensor([part.histogram for part in parts]).sum(dim=0).double()
    middles = (torch.arange(NUM_BINS) + 0.5) * BIN_WIDTH
    for logger in trainer.loggers:
        if not isinstance(logger, TensorBoardLogger) or not trainer.is_global_zero or not counts.sum():
            continue
        step = trainer.global_step
        if len(critical):
            logger.experiment.add_histogram("train/critical_token_entropy/histogram", critical, step)
        logger.experiment.add_histogram_raw(
            "train/token_entropy/histogram",
            min=0.0,
            max=NUM_BINS * BIN_WIDTH,
            num=int(counts.sum()),
            sum=float((counts * middles).sum()),
            sum_squares=float((counts * middles**2).sum()),
            bucket_limits=((torch.arange(NUM_BINS) + 1) * BIN_WIDTH).tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        )
