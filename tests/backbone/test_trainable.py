from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny import Tiny, examples

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.backbone.families import FAMILIES
from lightning_r1v3.backbone.packing import pack_examples


def step(backbone: Backbone, tiny: Tiny) -> torch.optim.Optimizer:
    """One optimizer step on all parameters."""
    preprocessor = tiny.preprocessor()
    ((_, row),) = pack_examples(examples(preprocessor), max_tokens=10_000, blank=preprocessor.blank)
    optimizer = torch.optim.AdamW(backbone.parameters())
    (-backbone(row).logprobs.mean()).backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("group", ["vision_tower", "connector", "language_model"])
def test_frozen_parameters_have_no_gradient_no_state_and_do_not_move(any_family: Tiny, group: str) -> None:
    backbone = any_family.backbone(trainable=[group])
    before = {name: p.detach().clone() for name, p in backbone.model.named_parameters()}
    optimizer = step(backbone, any_family)
    trained = {name for name, p in backbone.named_groups()[group] if p.requires_grad}
    assert {name for name, p in backbone.model.named_parameters() if p.grad is not None} == trained
    assert {name for name, p in backbone.model.named_parameters() if p in optimizer.state} == trained
    moved = {name for name, p in backbone.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved <= trained
    assert moved


def test_a_merger_inside_a_frozen_tower_trains(tiny_of: Callable[[str], Tiny]) -> None:
    tiny = tiny_of("qwen3_vl")
    backbone = tiny.backbone(trainable=["connector"])
    step(backbone, tiny)
    trained = {name.split(".")[2] for name, p in backbone.model.named_parameters() if p.grad is not None}
    assert trained == {"merger", "deepstack_merger_list"}


def test_the_report_counts_parameters_and_tensors(internvl: Tiny) -> None:
    backbone = internvl.backbone(trainable=["connector"])
    vision, connector, language = backbone.report()
    assert (connector.group, connector.parameters, connector.tensors) == ("connector", 4352, 6)
    assert (connector.trainable_parameters, connector.trainable_tensors) == (4352, 6)
    assert vision.trainable_parameters == language.trainable_parameters == language.trainable_tensors == 0
    assert vision.tensors + connector.tensors + language.tensors == len(list(backbone.parameters()))


def test_tied_embeddings_count_once(internvl: Tiny) -> None:
    tied = internvl.backbone(random_weights=True, overrides={"tie_word_embeddings": True})
    untied = internvl.backbone()
    saved = untied.report()[2].parameters - tied.report()[2].parameters
    assert saved == untied.model.lm_head.weight.numel()


def test_what_no_forward_pass_reaches_does_not_train(tiny_of: Callable[[str], Tiny]) -> None:
    backbone = tiny_of("llava_onevision").backbone()
    frozen = [name for name, p in backbone.model.named_parameters() if not p.requires_grad]
    assert frozen == ["model.vision_tower.post_layernorm.weight", "model.vision_tower.post_layernorm.bias"]


def test_every_parameter_belongs_to_one_group(any_family: Tiny) -> None:
    backbone = any_family.backbone()
    named = [name for group in backbone.named_groups().values() for name, _ in group]
    assert sorted(named) == sorted(name for name, _ in backbone.model.named_parameters())


@pytest.mark.parametrize(
    ("family", "parameter", "group"),
    [
        ("internvl", "model.multi_modal_projector.linear_1.weight", "connector"),
        ("internvl", "lm_head.weight", "language_model"),
        ("qwen2_5_vl", "model.visual.merger.mlp.0.weight", "connector"),
        ("qwen2_5_vl", "model.visual.blocks.0.norm1.weight", "vision_tower"),
        ("llava_onevision", "model.image_newline", "connector"),
    ],
)
def test_group_of(family: str, parameter: str, group: str) -> None:
    assert FAMILIES[family].group_of(parameter) == group


def test_a_parameter_of_no_group_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'model.audio.weight' belongs to no module group"):
        FAMILIES["internvl"].group_of("model.audio.weight")
