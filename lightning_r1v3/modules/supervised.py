"""What the supervised stages share: the step that imitates responses."""

from __future__ import annotations

from abc import ABC
from typing import Any

import torch

from lightning_r1v3.modules.base import VLMModule
from lightning_r1v3.modules.ranks import reduce_across_ranks
from lightning_r1v3.types import ExampleBatch


class Supervised(VLMModule, ABC):
    """Imitates responses: the mean negative log-probability of the completion tokens of the global batch.

    Prompts are not trained on. Deviation from the paper: it does not say how it normalises; here every completion token
    of the batch weighs the same, whatever process or row it is in.
    """

    def training_step(self, batch: ExampleBatch, batch_idx: int) -> dict[str, Any]:
        """Trains one optimizer batch; see `step_output` for what it returns.

        Raises:
            ValueError: No sample of the whole batch has a response.
        """
        with self.phase("pack"):
            rows = self.pack([example for example in batch.examples if len(example.completion_ids)])
        num_tokens = self.across_ranks(sum(len(row.targets) for _, row in rows))
        if not num_tokens and self.across_ranks(len(batch.examples)):
            name = type(self).__name__
            raise ValueError(f"{name} needs samples with a `response`; the whole batch has none: check data.train")
        num_tokens = max(num_tokens, 1)  # a batch whose samples were all dropped
        with self.phase("update"):
            stats, loss_part = self.train_rows(rows, lambda _, stats: -stats.logprobs.sum() / num_tokens)
            grad_norm = self.take_step()
        parts = torch.stack([loss_part, stats.entropy.sum() / num_tokens])
        loss, entropy = reduce_across_ranks(parts, self.trainer).tolist()
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({"train/entropy": entropy, "train/grad_norm": grad_norm, "train/tokens": num_tokens})
        self.log("train/skipped_steps", float(self.num_skipped_steps))
        return self.step_output(loss, rows, stats)
