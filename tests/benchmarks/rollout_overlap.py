"""What `max_staleness: 1` hides: the next episode drawn by a vLLM server while this one trains.

The server has one processor core to itself and the trainer another. Needs vLLM and two cores.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning_r1v3  # noqa: F401  (before lightning imports torchvision)

# isort: split
import psutil
import torch
from lightning import Callback, LightningModule, Trainer
from own_grpo import VowelReward
from own_trainer import Clock, quiet_trainer
from report import report

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.data.datamodule import ShardDataModule, Source
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.modules import GRPO
from lightning_r1v3.modules.policy_loss import PolicyLoss
from lightning_r1v3.rollout.server_settings import ServerSettings
from lightning_r1v3.rollout.vllm_engine import VLLMEngine
from lightning_r1v3.types import Sampling, SyncReport

ROOT = Path(__file__).parents[2]
BASE = str(ROOT / "data_shards/mini/base")
TRAINER_CORE, SERVER_CORE = 0, 1
NUM_WARMUP_STEPS = 2
MIN_HIDDEN = 0.5
"""Of the shorter of generation and update."""


class PinnedEngine(VLLMEngine):
    """An engine whose server stays on its core."""

    def sync(self, backbone: Backbone, *, policy_version: int = 0) -> SyncReport:
        synced = super().sync(backbone, policy_version=policy_version)
        for leader in self.server_pids:
            for process in [psutil.Process(leader), *psutil.Process(leader).children(recursive=True)]:
                for thread in process.threads():
                    os.sched_setaffinity(thread.id, {SERVER_CORE})
        return synced


class Phases(Callback):
    """Notes how long each phase of a step took."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seen.append(dict(outputs["phase_seconds"]))


def measure(max_staleness: int, options: argparse.Namespace) -> dict[str, float]:
    """Returns the median seconds of a step and of its phases, after the warm-up."""
    shards = ShardDataModule(
        BASE,
        train=[Source(str(ROOT / "data_shards/mini/rl-*.tar"))],
        prompt=PromptFormat(system_prompt=None),
        batch_size=options.prompts,
    )
    module = GRPO(
        Sampling(group_size=options.group_size, max_new_tokens=options.tokens),
        policy_loss=PolicyLoss(truncate_ratio=2.0),
        max_staleness=max_staleness,
        backbone=BackboneConfig(BASE),
        optimizer=functools.partial(torch.optim.AdamW, lr=1e-5),
        reward=VowelReward(),
        engine=PinnedEngine(servers=ServerSettings(options={"max_model_len": 1024})),
    )
    clock, phases = Clock(), Phases()
    with tempfile.TemporaryDirectory() as folder:
        quiet_trainer(Path(folder), [clock, phases], max_steps=options.steps + NUM_WARMUP_STEPS).fit(module, shards)
    ends = clock.ends[NUM_WARMUP_STEPS - 1 :]
    steps = [end - start for start, end in itertools.pairwise(ends)]
    medians = {name: _median(phases.seen, name) for name in ("sync", "generate", "score", "update")}
    return {"step": statistics.median(steps)} | medians


def _median(phases: Sequence[dict[str, float]], name: str) -> float:
    return statistics.median(each[name] for each in phases[NUM_WARMUP_STEPS:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64, help="longest completion; default %(default)s")
    parser.add_argument("--steps", type=int, default=8, help="measured of each kind; default %(default)s")
    options = parser.parse_args()
    os.sched_setaffinity(0, {TRAINER_CORE})
    torch.set_num_threads(1)
    start = time.perf_counter()
    exact, overlapped = (measure(max_staleness, options) for max_staleness in (0, 1))
    shorter = min(exact["generate"], exact["update"])
    hidden = (exact["step"] - overlapped["step"]) / shorter
    figures = {
        "seconds": {"max_staleness 0": _rounded(exact), "max_staleness 1": _rounded(overlapped)},
        "hidden_share_of_the_shorter": round(hidden, 3),
        "target": MIN_HIDDEN,
        "met": hidden >= MIN_HIDDEN,
        "steps": options.steps,
        "wall_seconds": round(time.perf_counter() - start, 1),
    }
    report("rollout_overlap", figures, seed=0)


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items()}


if __name__ == "__main__":
    main()
