from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import Tiny, gradients, packed_row, relative_difference, write_tiny
from torch.distributed.tensor import DTensor

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.backbone.families import family_of
from lightning_r1v3.backbone.load import build_on_meta
from lightning_r1v3.backbone.meta import tied_names
from lightning_r1v3.backbone.sharding import Sharding, sharding_plan
from lightning_r1v3.types import TokenBatch

# The connector's output, into which nothing writes.
pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")

R1V3_38B = Path(__file__).parents[2] / "configs/r1v3_38b/model"
NUM_PARAMETERS = 38_388_164_992
"""With embeddings of its own for the output layer."""


def trained(backbone: Backbone, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities and gradients."""
    stats = backbone(batch)
    (stats.logprobs.sum() + stats.entropy.sum()).backward()
    whole = {
        name: gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
        for name, gradient in gradients(backbone.model).items()
    }
    return stats.logprobs.detach(), whole


def test_the_plan_covers_every_parameter_once(any_family: Tiny) -> None:
    backbone = any_family.backbone()
    plan = sharding_plan(backbone.model, backbone.family)
    placed = Counter(name for unit in plan.units for name in unit.parameters) + Counter(plan.root)
    assert placed == Counter(name for name, _ in backbone.model.named_parameters())
    assert {unit.group for unit in plan.units} == {"vision_tower", "connector", "language_model"}
    assert all(backbone.family.group_of(name) == unit.group for unit in plan.units for name in unit.parameters)


def test_the_38b_model_is_planned_without_memory_for_it() -> None:
    model = build_on_meta(BackboneConfig(str(R1V3_38B)), dtype=torch.bfloat16, vision_attention="sdpa")
    assert all(parameter.is_meta for parameter in model.parameters())
    assert not any(buffer.is_meta for buffer in model.buffers())
    assert sum(parameter.numel() for parameter in model.parameters()) == NUM_PARAMETERS
    plan = sharding_plan(model, family_of(model.config.model_type))
    assert Counter(unit.group for unit in plan.units) == {"vision_tower": 45, "connector": 1, "language_model": 64}
    assert sum(len(unit.parameters) for unit in plan.units) + len(plan.root) == len(list(model.parameters()))


def test_shards_are_loaded_as_the_whole_model_is(any_family: Tiny, sharding: Sharding) -> None:
    config = BackboneConfig(str(any_family.folder))
    whole, sharded = Backbone.from_config(config), Backbone.from_config(config, sharding=sharding)
    loaded = dict(sharded.whole_weights())
    assert all(isinstance(parameter, DTensor) for parameter in sharded.parameters())
    assert all(torch.equal(loaded[name], parameter) for name, parameter in whole.model.named_parameters())
    buffers = dict(sharded.model.named_buffers())
    assert all(torch.equal(buffers[name], buffer) for name, buffer in whole.model.named_buffers())


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_sharded_forward_and_backward_equal_the_whole_models(
    any_family: Tiny, sharding: Sharding, gradient_checkpointing: bool
) -> None:
    config = BackboneConfig(str(any_family.folder), gradient_checkpointing=gradient_checkpointing)
    batch = packed_row(any_family)
    expected, sharded = (trained(Backbone.from_config(config, sharding=kind), batch) for kind in (None, sharding))
    torch.testing.assert_close(sharded[0], expected[0])
    assert relative_difference(sharded[1], expected[1]) < 1e-5


def test_half_precision_is_of_the_computation_alone(any_family: Tiny, sharding: Sharding) -> None:
    half = replace(sharding, compute_dtype=torch.bfloat16)
    config = BackboneConfig(str(any_family.folder))
    batch = packed_row(any_family)
    expected, sharded = (trained(Backbone.from_config(config, sharding=kind), batch) for kind in (None, half))
    assert {gradient.dtype for gradient in sharded[1].values()} == {torch.float32}
    torch.testing.assert_close(sharded[0], expected[0], rtol=0.1, atol=0.3)
    assert not torch.allclose(sharded[0], expected[0], rtol=1e-5)


def test_frozen_groups_get_no_gradient_in_shards(internvl: Tiny, sharding: Sharding) -> None:
    config = BackboneConfig(str(internvl.folder), trainable=["connector"])
    batch = packed_row(internvl)
    expected, sharded = (trained(Backbone.from_config(config, sharding=kind), batch) for kind in (None, sharding))
    assert relative_difference(sharded[1], expected[1]) < 1e-5


def test_tied_embeddings_stay_one_parameter(tmp_path: Path, sharding: Sharding) -> None:
    tied = write_tiny("qwen2_5_vl", tmp_path / "tied", tie_word_embeddings=True)
    config = BackboneConfig(str(tied.folder), overrides={"tie_word_embeddings": True})
    batch = packed_row(tied)
    whole, sharded = (Backbone.from_config(config, sharding=kind) for kind in (None, sharding))
    assert tied_names(sharded.model) == tied_names(whole.model)
    assert max(map(len, tied_names(sharded.model))) == 2
    (expected, _), (logprobs, _) = trained(whole, batch), trained(sharded, batch)
    torch.testing.assert_close(logprobs, expected)


def test_gathered_weights_are_the_present_ones(internvl: Tiny, sharding: Sharding) -> None:
    sharded = Backbone.from_config(BackboneConfig(str(internvl.folder)), sharding=sharding)
    batch = packed_row(internvl)
    for _ in range(2):
        whole = sharded.gathered()
        assert not any(isinstance(parameter, DTensor) for parameter in whole.parameters())
        torch.testing.assert_close(whole(batch).logprobs, sharded(batch).logprobs.detach())
        with torch.no_grad():
            for parameter in sharded.parameters():
                parameter.mul_(1.1)


def test_a_model_that_is_too_large_is_not_gathered(internvl: Tiny, sharding: Sharding) -> None:
    sharded = Backbone.from_config(
        BackboneConfig(str(internvl.folder)), sharding=replace(sharding, max_gathered_bytes=9)
    )
    with pytest.raises(ValueError, match=r"hold the whole model on every process.*Use a rollout server"):
        sharded.check_gatherable()


def test_missing_tensors_are_refused_in_shards(internvl: Tiny, sharding: Sharding, tmp_path: Path) -> None:
    internvl.backbone().export(tmp_path / "hf")
    weights = load_file(tmp_path / "hf/model.safetensors")
    del weights[next(name for name in weights if name.endswith("linear_1.weight"))]
    save_file(weights, tmp_path / "hf/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 of the model's tensors, first .*linear_1\.weight"):
        Backbone.from_config(BackboneConfig(str(tmp_path / "hf")), sharding=sharding)
