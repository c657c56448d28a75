"""Our side of the GRPO benchmarks, in a process of its own; prints what the peer's side prints.

With `--rollouts` it trains on completions that the peer drew, to show that both sides compute the same step.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from grpo_inputs import PROMPT, SEED
from lightning import Callback, LightningModule, Trainer
from own_trainer import Clock, quiet_trainer
from resident_memory import PeakMemory
from vowel_reward import vowels

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.data.datamodule import ShardDataModule, Source
from lightning_r1v3.modules import GRPO
from lightning_r1v3.rewards.reward import RewardBatch
from lightning_r1v3.rollout.local import LocalEngine
from lightning_r1v3.types import FINISH_LENGTH, Example, RolloutBatch, Sample, Sampling, SyncReport


class VowelReward:
    """The reward that both sides use."""

    def score(self, completions: Sequence[str], samples: Sequence[Sample], *, think_opened: bool) -> RewardBatch:
        reward = torch.tensor([vowels(completion) for completion in completions])
        nothing = torch.zeros(len(reward))
        return RewardBatch(reward, accuracy=nothing, format=nothing, status=("ok",) * len(reward))

    def close(self) -> None:
        pass


class GivenRollouts:
    """An engine whose completions were drawn before."""

    def __init__(self, token_ids: list[list[int]]) -> None:
        self.token_ids = torch.tensor(token_ids)

    def sync(self, backbone: Backbone, *, policy_version: int = 0) -> SyncReport:
        return SyncReport()

    def generate(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> RolloutBatch:
        return RolloutBatch(
            self.token_ids,
            logprobs=torch.zeros(self.token_ids.shape),
            mask=torch.ones_like(self.token_ids, dtype=torch.bool),
            finish_reason=(FINISH_LENGTH,) * len(self.token_ids),
        )

    def close(self) -> None:
        pass


class Observer(Callback):
    """Notes the phases, the completions' tokens and the first step's figures, and takes the peak of memory."""

    def __init__(self) -> None:
        self.phases: list[dict[str, float]] = []
        self.num_tokens: list[int] = []
        self.first: dict[str, float] = {}
        self.memory = PeakMemory()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.memory.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.phases.append(outputs["phase_seconds"])
        self.num_tokens.append(int(outputs["token_mask"].sum()))
        if not self.first:
            logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
            self.first = {name: logged[f"train/{name}"] for name in ("reward", "entropy", "grad_norm")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what grpo_inputs.py wrote")
    parser.add_argument("episodes", type=json.loads, help="fields of grpo_inputs.Episodes")
    parser.add_argument("--rollouts", type=Path, help="completions of the first episode, one list of token ids each")
    options = parser.parse_args()
    episodes, model_folder = options.episodes, str(options.folder / "model")
    shards = ShardDataModule(
        model_folder,
        train=[Source(str(options.folder / "train-*.tar"))],
        prompt=PROMPT,
        batch_size=episodes["num_prompts"],
        seed=SEED,
    )
    module = GRPO(
        Sampling(
            group_size=episodes["group_size"],
            max_new_tokens=episodes["num_new_tokens"],
            banned_strings=(shards.preprocessor.processor.tokenizer.eos_token,),
        ),
        backbone=BackboneConfig(model_folder),
        optimizer=functools.partial(torch.optim.AdamW, lr=episodes["learning_rate"], weight_decay=0.0),
        reward=VowelReward(),
        engine=GivenRollouts(json.loads(options.rollouts.read_text())) if options.rollouts else LocalEngine(),
    )
    clock, observer = Clock(), Observer()
    num_steps = 1 if options.rollouts else episodes["num_steps"]
    quiet_trainer(options.folder / "own", [clock, observer], max_steps=num_steps).fit(module, shards)
    figures = {
        "ends": clock.ends,
        "cpu_ends": clock.cpu_ends,
        "phases": observer.phases,
        "num_tokens": observer.num_tokens,
        "peak_bytes": observer.memory.bytes_above(),
        "first": observer.first,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
