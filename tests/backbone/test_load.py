from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Tiny, config_of, processor_of

from lightning_r1v3.backbone import Backbone, BackboneConfig


def folder_of(config: Any, folder: Path) -> str:
    """A folder without weights."""
    config.save_pretrained(folder)
    processor_of("internvl").save_pretrained(folder)
    return str(folder)


def random_backbone(folder: str, **settings: Any) -> Backbone:
    return Backbone.from_config(BackboneConfig(folder, random_weights=True, **settings))


def weights(backbone: Backbone) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in backbone.parameters()])


def test_random_weights_need_no_safetensors_and_follow_the_seed(tmp_path: Path) -> None:
    folder = folder_of(config_of("internvl"), tmp_path)
    first, again, other = (weights(random_backbone(folder, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_random_weights_leave_the_callers_generator_alone(tmp_path: Path) -> None:
    folder = folder_of(config_of("internvl"), tmp_path)
    before = torch.random.get_rng_state()
    random_backbone(folder)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("random_weights", [False, True])
def test_our_attention_runs_in_the_language_model_only(any_family: Tiny, random_weights: bool) -> None:
    model = any_family.backbone(random_weights=random_weights).model
    assert model.get_decoder().config._attn_implementation == "r1v3_layout"
    assert model.config.vision_config._attn_implementation == "sdpa"


@pytest.mark.parametrize("random_weights", [False, True])
def test_a_backbone_starts_in_training_mode(internvl: Tiny, random_weights: bool) -> None:
    backbone = internvl.backbone(random_weights=random_weights)
    assert all(module.training for module in backbone.modules())


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_dtype_is_that_of_every_parameter(any_family: Tiny, dtype: str) -> None:
    backbone = any_family.backbone(dtype=dtype)
    assert {parameter.dtype for parameter in backbone.parameters()} == {getattr(torch, dtype)}


def test_auto_dtype_is_float32_on_a_cpu(internvl: Tiny) -> None:
    assert next(internvl.backbone().parameters()).dtype == torch.float32


def test_overrides_change_the_config(internvl: Tiny) -> None:
    overrides = {"tie_word_embeddings": True, "text_config.rms_norm_eps": 1e-3}
    backbone = internvl.backbone(random_weights=True, overrides=overrides)
    assert backbone.model.lm_head.weight is backbone.model.get_input_embeddings().weight
    assert backbone.model.model.language_model.norm.variance_epsilon == 1e-3


@pytest.mark.parametrize("name", ["tie_embeddings", "text_config.layers", "no_config.layers"])
def test_an_unknown_override_is_an_error(internvl: Tiny, name: str) -> None:
    with pytest.raises(ValueError, match=f"internvl has no config entry '{name}'"):
        internvl.backbone(overrides={name: 1})


def test_an_unknown_family_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    with pytest.raises(ValueError, match=r"'llava' is not supported: expected one of \['internvl'"):
        Backbone.from_config(BackboneConfig(str(tmp_path)))


@pytest.mark.parametrize(
    ("language", "message"),
    [
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "full attention in every layer"),
        ({"attention_dropout": 0.1}, r"no dropout.*text_config.attention_dropout: 0.0"),
    ],
)
def test_what_our_attention_cannot_do_is_refused(language: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = folder_of(config_of("internvl", **language), tmp_path)
    with pytest.raises(ValueError, match=message):
        random_backbone(folder)


def test_dropout_can_be_overridden(tmp_path: Path) -> None:
    folder = folder_of(config_of("internvl", attention_dropout=0.1), tmp_path)
    random_backbone(folder, overrides={"text_config.attention_dropout": 0.0})


def test_features_from_an_inner_vision_layer_are_refused(internvl: Tiny) -> None:
    with pytest.raises(ValueError, match="expected vision_feature_layer -1, got -2"):
        internvl.backbone(overrides={"vision_feature_layer": -2})
