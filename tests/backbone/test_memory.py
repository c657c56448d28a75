from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import Tiny
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import AutoProcessor

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.backbone.load import build_on_meta
from lightning_r1v3.backbone.memory import Workload, training_memory
from lightning_r1v3.backbone.packing import pack_examples
from lightning_r1v3.data.mini import generate
from lightning_r1v3.data.preprocess import Preprocessor
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.types import TokenBatch

BASE = Path(__file__).parents[2] / "data_shards/mini/base"


def row(num_samples: int) -> TokenBatch:
    processor = AutoProcessor.from_pretrained(BASE, local_files_only=True)
    preprocessor = Preprocessor(processor, PromptFormat(system_prompt=None))
    examples = [example for sample in generate("train", num_samples, seed=0) if (example := preprocessor(sample))]
    return pack_examples(examples, max_tokens=100_000, blank=preprocessor.blank)[0][1]


def measured_peak(backbone: Backbone, batch: TokenBatch) -> int:
    """Bytes of tensors in two steps of training."""
    optimizer = torch.optim.AdamW(backbone.parameters(), foreach=False)
    tracker = MemTracker()
    tracker.track_external(backbone, optimizer)
    with tracker:
        for _ in range(2):
            tracker.reset_mod_stats()
            (-backbone(batch).logprobs.sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
    return sum(sizes["Total"] for sizes in tracker.get_tracker_snapshot("peak").values())


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_the_estimate_is_within_a_quarter_of_the_measured_peak(gradient_checkpointing: bool) -> None:
    backbone = Backbone.from_config(BackboneConfig(str(BASE), gradient_checkpointing=gradient_checkpointing))
    batch = row(12)
    image_tokens = int((batch.token_ids == backbone.model.config.image_token_id).sum())
    work = Workload(
        row_tokens=len(batch.token_ids),
        image_fraction=image_tokens / len(batch.token_ids),
        compute_dtype=torch.float32,
        gradient_checkpointing=gradient_checkpointing,
    )
    estimate = sum(training_memory(backbone.model, backbone.family, work).values())
    assert estimate == pytest.approx(measured_peak(backbone, batch), rel=0.25)


def test_shards_divide_what_is_kept_and_add_what_is_gathered(internvl: Tiny) -> None:
    backbone = internvl.backbone()
    whole = training_memory(backbone.model, backbone.family, Workload())
    split = training_memory(backbone.model, backbone.family, Workload(shards=4))
    kept = ("weights", "gradients", "optimizer")
    assert [split[cause] for cause in kept] == [whole[cause] // 4 for cause in kept]
    assert split["activations"] == whole["activations"]
    assert split["gathered"] > 0


def test_frozen_groups_need_neither_gradients_nor_optimizer_state(internvl: Tiny) -> None:
    backbone = internvl.backbone(trainable=["connector"])
    memory = training_memory(backbone.model, backbone.family, Workload())
    connector = sum(parameter.numel() for _, parameter in backbone.named_groups()["connector"])
    assert (memory["gradients"], memory["optimizer"]) == (4 * connector, 8 * connector)


def test_every_family_is_estimated_from_its_config_alone(any_family: Tiny) -> None:
    model = build_on_meta(BackboneConfig(str(any_family.folder)), dtype=torch.float32, vision_attention="sdpa")
    family = any_family.backbone().family
    work = Workload(gradient_checkpointing=False)
    memory = training_memory(model, family, work)
    assert memory["activations"] > training_memory(model, family, replace(work, row_tokens=1000))["activations"] > 0
