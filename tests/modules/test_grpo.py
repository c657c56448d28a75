from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger

from lightning_r1v3.backbone import BackboneConfig
from lightning_r1v3.data.datamodule import ShardDataModule, Source
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.modules import GRPO
from lightning_r1v3.rewards.reward import RewardBatch
from lightning_r1v3.types import Sample, Sampling

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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    folder, outputs = tmp_path_factory.mktemp("run"), Outputs()
    data = ShardDataModule(
        CHECKPOINT,
        [Source(str(ROOT / "data_shards/mini/rl-*.tar"))],
        prompt=PromptFormat(system_prompt=None),
        batch_size=4,
    )
    trainer = Trainer(
        max_steps=10,
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
    trainer.fit(grpo(max_tokens_per_microbatch=200), data)
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file)), outputs.seen


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
    assert output["phase_seconds"].keys() == {"generate", "score", "update"}


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
