from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.data.datamodule import ShardDataModule, Source
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.modules import GRPO
from lightning_r1v3.modules.overlong import Overlong
from lightning_r1v3.modules.policy_loss import PolicyLoss
from lightning_r1v3.rewards.reward import RewardBatch
from lightning_r1v3.rollout.errors import RolloutError
from lightning_r1v3.rollout.local import LocalEngine
from lightning_r1v3.types import Example, RolloutBatch, Sample, Sampling, SyncReport

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]

ROOT = Path(__file__).parents[2]
CHECKPOINT = str(ROOT / "data_shards/mini/base")
SAMPLING = Sampling(group_size=4, max_new_tokens=12)


class PaysForOnes:
    def score(self, completions: Sequence[str], samples: Sequence[Sample], *, think_opened: bool) -> RewardBatch:
        assert think_opened
        share = torch.tensor([text.count("1") / max(len(text), 1) for text in completions])
        return RewardBatch(share, share, torch.ones(len(share)), ("ok",) * len(share))

    def close(self) -> None:
        pass


class Outputs(Callback):
    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(outputs)


def grpo(**settings: Any) -> GRPO:
    settings = {"sampling": SAMPLING, "reward": PaysForOnes()} | settings
    return GRPO(backbone=BackboneConfig(CHECKPOINT), optimizer=partial(torch.optim.AdamW, lr=1e-3), **settings)


def train(
    folder: Path, module: GRPO, *, steps: int, resume: Path | None = None, **data: Any
) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    outputs = Outputs()
    shards = ShardDataModule(
        CHECKPOINT,
        [Source(str(ROOT / "data_shards/mini/rl-*.tar"))],
        prompt=PromptFormat(system_prompt=None),
        **{"batch_size": 4} | data,
    )
    trainer = Trainer(
        max_steps=steps,
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        logger=CSVLogger(str(folder), "", ""),
        callbacks=[outputs],
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
    )
    trainer.fit(module, shards, ckpt_path=resume, weights_only=True)
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file)), outputs.seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def run(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    return train(folder, grpo(max_tokens_per_microbatch=200, num_logged_rollouts=3), steps=10)


def test_the_reward_rises(run: tuple[list[dict[str, str]], Any]) -> None:
    rewards = [float(row["train/reward"]) for row in run[0]]
    assert len(rewards) == 10
    assert sum(rewards[-3:]) > 1.5 * sum(rewards[:3])


def test_learner_and_engine_score_the_drawn_tokens_alike(run: tuple[list[dict[str, str]], Any]) -> None:
    assert max(float(row["rollout/logprob_gap"]) for row in run[0]) < 1e-5


def test_the_output_is_what_callbacks_read(run: tuple[Any, list[dict[str, Any]]]) -> None:
    output = run[1][0]
    assert output["token_entropy"].shape == output["token_ids"].shape == output["token_mask"].shape
    assert len(output["rewards"]) == len(output["accuracy"]) == len(output["token_ids"]) == 16
    assert output["phase_seconds"].keys() == {"sync", "generate", "score", "update"}


class Ahead(LocalEngine):
    """Draws at once what a server would draw meanwhile."""

    draws_ahead = True

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, int]] = []
        self.drawn: dict[Any, RolloutBatch] = {}

    def prefetch(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> None:
        self.calls.append(("prefetch", step))
        self.drawn[step, *(prompt.sample.id for prompt in prompts)] = super().generate(prompts, sampling, step=step)

    def generate(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> RolloutBatch:
        ahead = self.drawn.pop((step, *(prompt.sample.id for prompt in prompts)), None)
        self.calls.append(("fetch" if ahead else "generate", step))
        return ahead or super().generate(prompts, sampling, step=step)


def test_the_next_episode_is_drawn_while_one_trains(tmp_path: Path) -> None:
    engine = Ahead()
    module = grpo(engine=engine, max_staleness=1, policy_loss=PolicyLoss(truncate_ratio=2.0))
    rows, _ = train(tmp_path, module, steps=4)
    assert [float(row["rollout/staleness"]) for row in rows] == [0, 1, 1, 1]
    fetched = [call for step in (1, 2, 3) for call in (("fetch", step), ("prefetch", step + 1))]
    assert engine.calls == [("generate", 0), ("prefetch", 1), *fetched]
    assert float(rows[0]["rollout/logprob_gap"]) < 1e-5 < float(rows[2]["rollout/logprob_gap"])


@pytest.mark.parametrize(
    ("engine", "truncate_ratio", "message"),
    [(LocalEngine(), 2.0, "needs a rollout server"), (Ahead(), None, "set policy_loss.truncate_ratio")],
)
def test_old_completions_need_an_engine_and_a_correction(
    engine: LocalEngine, truncate_ratio: float | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        grpo(engine=engine, max_staleness=1, policy_loss=PolicyLoss(truncate_ratio=truncate_ratio))


@pytest.mark.parametrize("sampling", [Sampling(group_size=1), Sampling(group_size=4, top_p=0.9)])
def test_sampling_that_cannot_be_compared_is_refused(sampling: Sampling) -> None:
    with pytest.raises(ValueError, match="sampling"):
        grpo(sampling=sampling)


def test_a_frozen_connector_needs_the_override() -> None:
    settings: dict[str, Any] = {"sampling": SAMPLING, "reward": PaysForOnes()}
    backbone = BackboneConfig(CHECKPOINT, trainable=["language_model"])
    with pytest.raises(ValueError, match="frozen connector"):
        GRPO(backbone=backbone, **settings)
    GRPO(backbone=backbone, allow_frozen_connector=True, **settings)


class Stale(LocalEngine):
    """An engine whose weights are not the learner's."""

    def generate(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> RolloutBatch:
        drawn = super().generate(prompts, sampling, step=step)
        return replace(drawn, logprobs=drawn.logprobs - 0.2)


class Synced(LocalEngine):
    """An engine that weights are sent to."""

    def sync(self, backbone: Backbone, *, policy_version: int = 0) -> SyncReport:
        super().sync(backbone, policy_version=policy_version)
        time.sleep(0.01)
        return SyncReport(num_bytes=8, seconds=0.01)


def test_bytes_seconds_and_share_of_a_sync_are_logged(tmp_path: Path) -> None:
    (row,), _ = train(tmp_path, grpo(engine=Synced()), steps=1)
    assert (float(row["sync/bytes"]), float(row["sync/seconds"])) == (8, pytest.approx(0.01))
    assert 0 < float(row["sync/share"]) < 1


def test_rollouts_are_kept_for_reading(run: Any, folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [step for step in range(10) for _ in range(3)]
    assert all(line["policy_version"] == line["step"] for line in lines)
    first = lines[0]
    assert first.keys() == {
        "step", "id", "question", "answer", "completion", "tokens", "entropies", "logprobs", "reward", "accuracy",
        "format", "finish_reason", "policy_version",
    }  # fmt: skip
    assert len(first["tokens"]) == len(first["entropies"]) == len(first["logprobs"])
    assert max(first["logprobs"]) <= 0 <= min(first["entropies"])


def test_several_steps_an_episode_measure_how_far_the_policy_has_moved(tmp_path: Path) -> None:
    rows, _ = train(tmp_path, grpo(minibatches=2, epochs_per_episode=2), steps=8)
    assert len(rows) == 2
    assert all(float(row["train/approx_kl"]) > 0 for row in rows)
    assert all(float(row["rollout/logprob_gap"]) < 1e-5 for row in rows)


def test_one_step_an_episode_is_on_policy(run: tuple[list[dict[str, str]], Any]) -> None:
    assert all(float(row["train/approx_kl"]) == float(row["train/clip_fraction"]) == 0.0 for row in run[0])


def test_the_divergence_from_the_start_holds_the_policy_back(tmp_path: Path) -> None:
    free, held = grpo(policy_loss=PolicyLoss(kl_coef=1e-6)), grpo(policy_loss=PolicyLoss(kl_coef=10.0))
    far, near = (train(tmp_path / str(number), module, steps=8)[0] for number, module in enumerate((free, held)))
    assert not [name for name in held.state_dict() if "reference" in name]
    assert float(far[0]["train/kl"]) == float(near[0]["train/kl"]) == pytest.approx(0.0, abs=1e-9)
    assert 0 < float(near[-1]["train/kl"]) < 0.8 * float(far[-1]["train/kl"])


def test_stale_rollouts_stop_the_run_before_the_step(tmp_path: Path) -> None:
    module = grpo(engine=Stale(), max_logprob_gap=0.1)
    with pytest.raises(RolloutError, match=r"0\.2 nats a token.*No step was taken"):
        train(tmp_path, module, steps=2)
    assert module.global_step == 0
    assert (tmp_path / "checkpoints/outage-step=0.ckpt").exists()


def test_equal_groups_are_replaced_from_the_batch(tmp_path: Path) -> None:
    rows, outputs = train(tmp_path, grpo(prompts_per_episode=2), steps=2, batch_size=6)
    assert all(2 <= float(row["rollout/drawn_prompts"]) <= 6 for row in rows)
    assert len(outputs[0]["rewards"]) == 8


def test_an_episode_of_more_prompts_than_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="raise batch_size"):
        train(tmp_path, grpo(prompts_per_episode=5), steps=1)


def test_lengths_of_steps_that_never_come_are_refused() -> None:
    with pytest.raises(ValueError, match=r"max_new_tokens_at: expected steps from 0 on, got \[-1\]"):
        grpo(max_new_tokens_at={-1: 5})


class Lost(LocalEngine):
    """An engine that is lost for good at a step."""

    def generate(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> RolloutBatch:
        if step == 2:
            raise RolloutError("no rollout server is left")
        return super().generate(prompts, sampling, step=step)


def test_a_lost_engine_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(RolloutError, match="no rollout server is left"):
        train(tmp_path, grpo(engine=Lost()), steps=4)
    (checkpoint,) = (tmp_path / "checkpoints").glob("*.ckpt")
    assert checkpoint.name == "outage-step=2.ckpt"
    rest, outputs = train(tmp_path / "rest", grpo(), steps=4, resume=checkpoint)
    _, unbroken = train(tmp_path / "unbroken", grpo(), steps=4)
    assert len(rest) == 2
    for resumed, whole in zip(outputs, unbroken[2:], strict=True):
        assert torch.equal(resumed["token_ids"], whole["token_ids"])


def test_completions_may_grow_with_the_steps(tmp_path: Path) -> None:
    module = grpo(max_new_tokens_at={1: 5, 2: 8}, overlong=Overlong(filter=True))
    _, outputs = train(tmp_path, module, steps=3)
    assert [output["token_ids"].shape[1] for output in outputs] == [12, 5, 8]
