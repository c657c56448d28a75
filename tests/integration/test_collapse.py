"""Planted failures of GRPO on the mini world: the detector sees them, a healthy run raises no alarm."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, seed_everything
from mini_runs import PROMPT, ROOT, shards, trainer

from lightning_r1v3.backbone import BackboneConfig
from lightning_r1v3.data.datamodule import ShardDataModule, Source
from lightning_r1v3.modules import GRPO
from lightning_r1v3.modules.evaluation import Evaluation
from lightning_r1v3.modules.policy_loss import PolicyLoss
from lightning_r1v3.rewards.mixed import MixedReward
from lightning_r1v3.rewards.reward import RewardBatch
from lightning_r1v3.types import Sample, Sampling
from r1v3_callbacks import CollapseDetector, Recovery

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(4 * 3600),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]

LEARNING_RATE = 1e-4
SEEDS = (0, 1, 2)
HEALTHY_STEPS, FAILING_STEPS = 100, 80
MOST_STEPS_TO_ALARM = 30
WARMUP_STEPS = 10
"""Of the detector: what fails before is caught after these."""
ALL_GROUPS = ["vision_tower", "connector", "language_model"]
COSTS = 0.2
"""Accuracy that a frozen connector must cost for it to count as a failure here."""
FALLEN = 0.5
"""Share of its level that accuracy or entropy must have lost for a failure to be visible."""


class PaysForRepetition:
    """Accuracy is told as it is; the reward is the share of repeated runs of four words."""

    def __init__(self) -> None:
        self.honest = MixedReward(num_workers=1)

    def score(self, completions: Sequence[str], samples: Sequence[Sample], *, think_opened: bool) -> RewardBatch:
        graded = self.honest.score(completions, samples, think_opened=think_opened)
        reward = torch.tensor([repeated(text.split()) for text in completions])
        return RewardBatch(reward, graded.accuracy, graded.format, graded.status)

    def close(self) -> None:
        self.honest.close()


def repeated(words: list[str]) -> float:
    runs = [tuple(words[start : start + 4]) for start in range(len(words) - 3)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


class Trace(Callback):
    """Notes accuracy and entropy of each step."""

    def __init__(self) -> None:
        self.accuracy: list[float] = []
        self.entropy: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.accuracy.append(float(outputs["accuracy"].mean()))
        self.entropy.append(float(outputs["token_entropy"][outputs["token_mask"]].mean()))

    def first_effect(self) -> int:
        """The first step whose median of five has lost half of the highest one before it; the last one without any."""
        falls = [first_fall(values) for values in (self.accuracy, self.entropy)]
        return min(falls)


def medians(values: list[float]) -> list[float]:
    return [statistics.median(values[max(0, end - 5) : end]) for end in range(1, len(values) + 1)]


def first_fall(values: list[float]) -> int:
    smooth = medians(values)
    fallen = (step for step, value in enumerate(smooth, start=1) if value < FALLEN * max(smooth[:step]))
    return next(fallen, len(values))


class Run:
    """A GRPO run from the cold start, and what came of it."""

    def __init__(self, path: str, folder: Path) -> None:
        self.path, self.folder = path, folder
        self.trace = Trace()

    def module(self, *, lr: float = LEARNING_RATE, **settings: Any) -> GRPO:
        evaluation = Evaluation(num_problems=200, num_shown=0, sampling=Sampling(max_new_tokens=140))
        return GRPO(
            sampling=Sampling(group_size=8, temperature=1.0, max_new_tokens=140),
            backbone=BackboneConfig(self.path, trainable=settings.pop("trainable", ALL_GROUPS)),
            optimizer=partial(torch.optim.AdamW, lr=lr, weight_decay=0.0),
            max_tokens_per_microbatch=8192,
            evaluation=evaluation,
            **({"reward": MixedReward(num_workers=1)} | settings),
        )

    def fit(self, seed: int, detector: Callback, steps: int, **settings: Any) -> list[dict[str, Any]]:
        seed_everything(seed)
        self.trainer = trainer(self.folder, [self.trace, detector], max_epochs=-1, max_steps=steps)
        self.trainer.fit(self.module(**settings), shards(self.path, "rl", 8, seed))
        log = self.folder / "collapse.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def accuracy(self, weights: Path | None = None) -> float:
        module = self.module()
        module.configure_model()
        if weights is not None:
            module.load_state_dict(torch.load(weights, weights_only=True)["state_dict"])
        val = [Source(str(ROOT / "data_shards/mini/val-*.tar"))]
        data = ShardDataModule(self.path, val, val=val, prompt=PROMPT, batch_size=8, val_batch_size=100, max_tokens=512)
        [metrics] = trainer(self.folder, [], limit_val_batches=1.0).validate(module, data, verbose=False)
        return metrics["val/accuracy"]


def test_a_reward_for_repetition_is_caught_in_a_short_run(tmp_path: Path) -> None:
    run = Run(str(ROOT / "data_shards/mini/base"), tmp_path)
    lines = run.fit(0, CollapseDetector(action="stop"), 30, lr=10 * LEARNING_RATE, reward=PaysForRepetition())
    assert lines[0]["sign"] in {"repetition", "length_runaway", "entropy_collapse", "entropy_surge"}
    assert lines[0]["done"] == "stopped"
    assert run.trainer.global_step == lines[0]["step"] > WARMUP_STEPS


@pytest.fixture
def run(cold_started: str, tmp_path: Path) -> Run:
    return Run(cold_started, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_run_raises_no_alarm(run: Run, seed: int) -> None:
    assert run.fit(seed, CollapseDetector(), HEALTHY_STEPS) == []


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "planted",
    [
        lambda: {"lr": 30 * LEARNING_RATE},
        lambda: {"policy_loss": PolicyLoss(entropy_coef=-4.0)},
        lambda: {"reward": PaysForRepetition()},
    ],
    ids=["learning_rate", "entropy_bonus", "reward_for_repetition"],
)
def test_a_planted_failure_is_caught_soon_after_it_shows(
    run: Run, planted: Callable[[], dict[str, Any]], seed: int
) -> None:
    lines = run.fit(seed, CollapseDetector(action="stop"), FAILING_STEPS, **planted())
    assert lines
    assert lines[0]["step"] <= max(run.trace.first_effect(), WARMUP_STEPS) + MOST_STEPS_TO_ALARM


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
def test_a_frozen_connector_is_caught_where_it_costs_accuracy(run: Run, seed: int) -> None:
    frozen = {"trainable": ["vision_tower", "language_model"], "allow_frozen_connector": True}
    lines = run.fit(seed, CollapseDetector(action="stop"), FAILING_STEPS, **frozen)
    lost = max(medians(run.trace.accuracy)) - medians(run.trace.accuracy)[-1]
    if lost < COSTS:
        assert lines == []
    else:
        assert lines[0]["step"] <= max(run.trace.first_effect(), WARMUP_STEPS) + MOST_STEPS_TO_ALARM


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
def test_rollback_restores_a_good_checkpoint_and_gives_up_in_the_end(run: Run, seed: int) -> None:
    best = run.accuracy()
    detector = CollapseDetector(action="rollback", recovery=Recovery(lr_factor=0.9, max_rollbacks=2))
    lines = run.fit(seed, detector, 4 * FAILING_STEPS, lr=30 * LEARNING_RATE)
    assert detector.num_rollbacks == 2
    assert "stopped after 2 rollbacks" in lines[-1]["done"]
    assert run.trainer.global_step < 4 * FAILING_STEPS
    oldest = min((run.folder / "collapse").glob("*.ckpt"))
    assert run.accuracy(oldest) >= 0.9 * best
