from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lightning_r1v3.data.mini import generate
from lightning_r1v3.data.writer import ShardWriter

sys.path.insert(0, str(Path(__file__).parent))  # for what the tests here share

REPOSITORY = Path(__file__).parents[2]
NUM_SAMPLES = 17
"""With batches of 4 the last batch of an epoch has one sample: the second of two processes gets none."""

# Runs inside the command: notes what is trained, and dies where it is told to.
WITNESS = """
import json, os, signal
from lightning import Callback

class Witness(Callback):
    def __init__(self, path: str, kill_before_step: int = -1):
        self.path, self.kill_before_step = path, kill_before_step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.kill_before_step:
            os.killpg(0, signal.SIGKILL)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        ids = [example.sample.id for example in batch.examples]
        line = {"step": trainer.global_step, "epoch": batch.epoch, "ids": ids}
        with open(f"{self.path}-{trainer.global_rank}.jsonl", "a") as file:
            file.write(json.dumps(line) + "\\n")
"""

CONFIG = {
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 2,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "callbacks": [
            {
                "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                "init_args": {"every_n_train_steps": 2, "save_top_k": -1, "filename": "{step}"},
            }
        ],
    },
    "model": {
        "class_path": "lightning_r1v3.modules.SFT",
        "init_args": {
            "backbone": {"path": str(REPOSITORY / "data_shards/mini/base"), "random_weights": True},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.003}},
            "schedule": {"kind": "cosine", "warmup_fraction": 0.1},
            "max_tokens_per_microbatch": 200,
            "evaluation": {"num_problems": 4, "num_shown": 0, "sampling": {"max_new_tokens": 8}},
        },
    },
    "data": {
        "class_path": "lightning_r1v3.data.datamodule.ShardDataModule",
        "init_args": {"train": [{"shards": "shards/train-*.tar"}], "batch_size": 4},
    },
}

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    with ShardWriter(folder / "shards", "train") as writer:
        for sample in generate("train", NUM_SAMPLES, seed=0):
            writer.write_sample(sample)
    with ShardWriter(folder / "shards", "val") as writer:
        for sample in generate("val", 6, seed=0):
            writer.write_sample(sample)
    (folder / "witness.py").write_text(WITNESS)
    (folder / "run.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


@pytest.fixture(scope="session")
def cold_started(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model after three epochs of chains."""
    from mini_runs import cold_start  # noqa: PLC0415  (found once the path above is)

    return cold_start(tmp_path_factory.mktemp("sft"))


@pytest.fixture(scope="session")
def command(workplace: Path) -> Command:
    environment = os.environ | {"PYTHONPATH": str(workplace), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def run(subcommand: str, *options: str) -> subprocess.CompletedProcess[str]:
        # In a session of its own, so that a kill takes all of its processes and none of ours.
        line = [sys.executable, "-m", "lightning_r1v3", subcommand, "-c", "run.yaml", *options]
        return subprocess.run(
            line, cwd=workplace, env=environment, capture_output=True, text=True, check=False, start_new_session=True
        )

    return run
