from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from lightning import Trainer

from lightning_r1v3.backbone import BackboneConfig
from lightning_r1v3.data.datamodule import ShardDataModule, Source
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.modules import SFT
from lightning_r1v3.strategy import check_optimizer

pytestmark = [
    # What Lightning and bitsandbytes say about themselves.
    pytest.mark.filterwarnings("ignore"),
]

ROOT = Path(__file__).parents[2]
BASE = str(ROOT / "data_shards/mini/base")
bitsandbytes = pytest.importorskip("bitsandbytes")


def test_a_run_learns_with_an_optimizer_state_of_eight_bits(tmp_path: Path) -> None:
    module = SFT(backbone=BackboneConfig(BASE), optimizer=partial(bitsandbytes.optim.AdamW8bit, lr=1e-3))
    train = [Source(str(ROOT / "data_shards/mini/sft-*.tar"))]
    shards = ShardDataModule(BASE, train, prompt=PromptFormat(system_prompt=None), batch_size=8, max_tokens=512)
    trainer = Trainer(
        max_steps=2,
        accelerator="cpu",
        devices=1,
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, shards)
    assert module.num_skipped_steps == 0
    moments = [state["state1"] for state in trainer.optimizers[0].state.values()]
    assert torch.uint8 in {moment.dtype for moment in moments}  # small tensors keep float32


def test_it_does_not_step_shards() -> None:
    optimizer = bitsandbytes.optim.AdamW8bit([torch.nn.Parameter(torch.zeros(2))])
    with pytest.raises(ValueError, match=r"AdamW8bit: bitsandbytes cannot step.*Take torch\.optim\.AdamW"):
        check_optimizer(optimizer)
    check_optimizer(torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))]))
