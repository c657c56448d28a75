"""What test runs are given by class path: engines that note and replay, a reward, a sender of signals."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.nn.utils.rnn import pad_sequence

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.rewards.reward import RewardBatch
from lightning_r1v3.rollout.local import LocalEngine
from lightning_r1v3.types import Example, RolloutBatch, Sample, Sampling, SyncReport

NOTES = Path("rollouts.jsonl")


class Recorder(LocalEngine):
    """Draws from the model, and notes it."""

    def generate(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> RolloutBatch:
        rollouts = super().generate(prompts, sampling, step=step)
        lines = []
        for index, prompt in enumerate(prompts):
            rows = range(index * sampling.group_size, (index + 1) * sampling.group_size)
            line = {
                "step": step,
                "id": prompt.sample.id,
                "token_ids": [rollouts.token_ids[row][rollouts.mask[row]].tolist() for row in rows],
                "logprobs": [rollouts.logprobs[row][rollouts.mask[row]].tolist() for row in rows],
                "finish_reason": [rollouts.finish_reason[row] for row in rows],
            }
            lines.append(json.dumps(line) + "\n")
        with NOTES.open("a") as file:
            file.writelines(lines)
        return rollouts


class Replay:
    """Gives back what was noted for a step and a prompt, whichever process asks."""

    def __init__(self) -> None:
        lines = [json.loads(line) for line in NOTES.read_text().splitlines()]
        self.drawn = {(line["step"], line["id"]): line for line in lines}

    def sync(self, backbone: Backbone, *, policy_version: int = 0) -> SyncReport:
        return SyncReport()

    def generate(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> RolloutBatch:
        lines = [self.drawn[step, prompt.sample.id] for prompt in prompts]
        token_ids = [torch.tensor(ids) for line in lines for ids in line["token_ids"]]
        logprobs = [torch.tensor(values) for line in lines for values in line["logprobs"]]
        return RolloutBatch(
            pad_sequence(token_ids, batch_first=True),
            pad_sequence(logprobs, batch_first=True),
            pad_sequence([torch.ones(len(ids), dtype=torch.bool) for ids in token_ids], batch_first=True),
            tuple(reason for line in lines for reason in line["finish_reason"]),
            step,
        )

    def close(self) -> None:
        """Holds nothing."""


class Arbitrary:
    """A number made of the text: hardly two completions earn the same."""

    def score(self, completions: Sequence[str], samples: Sequence[Sample], *, think_opened: bool) -> RewardBatch:
        bytes_ = [hashlib.sha256(text.encode()).digest()[0] for text in completions]
        reward = torch.tensor([byte / 255 for byte in bytes_])
        return RewardBatch(reward, reward.round(), reward, ("ok",) * len(completions))

    def close(self) -> Any:
        """Holds nothing."""


class Signaller(Callback):
    """Sends a signal to one process of the launch before it trains a step."""

    def __init__(self, signal: str, step: int, rank: int = 1) -> None:
        self.signal, self.step, self.rank = signal, step, rank

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if (trainer.global_step, trainer.global_rank) == (self.step, self.rank):
            os.kill(os.getpid(), signal.Signals[self.signal])
