from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import Tiny, packed_row
from torch import Tensor

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.backbone.config import Lora
from lightning_r1v3.backbone.sharding import Sharding
from lightning_r1v3.types import TokenBatch

GROUPS = ["vision_tower", "connector", "language_model"]
pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")


def train(backbone: Backbone, batch: TokenBatch) -> Backbone:
    """Two steps, after which both factors have moved."""
    optimizer = torch.optim.AdamW([p for p in backbone.parameters() if p.requires_grad], lr=0.02)
    for _ in range(2):
        (-backbone(batch).logprobs.mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return backbone


def logprobs(backbone: Backbone, batch: TokenBatch) -> Tensor:
    with torch.no_grad():
        return backbone.eval()(batch).logprobs


def test_adapters_begin_as_no_change(any_family: Tiny) -> None:
    batch = packed_row(any_family)
    adapted = any_family.backbone(lora=Lora(rank=2, groups=GROUPS))
    torch.testing.assert_close(logprobs(adapted, batch), logprobs(any_family.backbone(), batch))


@pytest.mark.parametrize("groups", [["language_model"], ["vision_tower", "connector"]], ids=str)
def test_of_adapted_groups_only_the_factors_train(internvl: Tiny, groups: list[str]) -> None:
    backbone = internvl.backbone(lora=Lora(rank=2, groups=groups))
    for group, named in backbone.named_groups().items():
        trained = {".lora_" in name for name, parameter in named if parameter.requires_grad}
        assert trained == {group in groups}


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_an_export_is_the_model_with_its_adapters_merged(internvl: Tiny, tmp_path: Path, quantize: str) -> None:
    batch = packed_row(internvl)
    before = internvl.backbone()
    backbone = train(internvl.backbone(lora=Lora(rank=2, groups=GROUPS, quantize=quantize)), batch)
    backbone.export(tmp_path / "hf")
    again = Backbone.from_config(BackboneConfig(str(tmp_path / "hf")))
    torch.testing.assert_close(logprobs(again, batch), logprobs(backbone, batch), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logprobs(again, batch), logprobs(before, batch), atol=0.1)
    assert [name for name, _ in again.model.named_parameters()] == [w.name for w in backbone.weight_list()]


def test_an_evaluation_leaves_4_bit_weights_as_they_are(internvl: Tiny) -> None:
    backbone = internvl.backbone(lora=Lora(rank=2, quantize="nf4"))
    before = {name: tensor.clone() for name, tensor in backbone.whole_weights()}
    logprobs(backbone, packed_row(internvl))
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.whole_weights())


def test_sharded_adapters_train_as_whole_ones_do(internvl: Tiny, sharding: Sharding) -> None:
    batch = packed_row(internvl)
    config = BackboneConfig(str(internvl.folder), lora=Lora(rank=2, groups=GROUPS))
    whole, sharded = (train(Backbone.from_config(config, sharding=kind), batch) for kind in (None, sharding))
    expected = dict(whole.whole_weights())
    for name, tensor in sharded.whole_weights():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logprobs(sharded.gathered(), batch), logprobs(whole, batch), rtol=1e-3, atol=1e-3)


def test_what_does_not_go_together_is_refused(internvl: Tiny, sharding: Sharding) -> None:
    quantised = BackboneConfig(str(internvl.folder), lora=Lora(quantize="nf4"))
    with pytest.raises(ValueError, match=r"does not go with VLMFSDPStrategy.*Leave quantize out"):
        Backbone.from_config(quantised, sharding=sharding)
    with pytest.raises(ValueError, match=r"groups names \['language_model'\], but only \['connector'\] train"):
        internvl.backbone(lora=Lora(), trainable=["connector"])
    with pytest.raises(ValueError, match="expected rank >= 1"):
        Lora(rank=0)
