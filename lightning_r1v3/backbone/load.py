"""Load a Hugging Face vision-language folder, or build its model with random weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)

from lightning_r1v3.backbone.attention import ATTENTION_NAME
from lightning_r1v3.backbone.checkpoint import checkpoint_folder, load_weights
from lightning_r1v3.backbone.config import BackboneConfig
from lightning_r1v3.backbone.families import family_of
from lightning_r1v3.backbone.meta import on_meta


def load_processor(path: str) -> ProcessorMixin:
    """Returns the processor of a checkpoint folder (tokenizer, image processor, chat template).

    Raises:
        ValueError: The folder is not a checkpoint.
    """
    folder = checkpoint_folder(path)
    processor: ProcessorMixin = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return processor


def load_model(config: BackboneConfig, *, dtype: torch.dtype, vision_attention: str) -> PreTrainedModel:
    """Returns the model of a folder in its native transformers class, with our attention in the language model.

    Args:
        config: Folder, overrides, and whether its weights are read or drawn.
        dtype: Of all parameters.
        vision_attention: transformers' attention implementation of the vision tower.

    Raises:
        ValueError: Not a checkpoint folder, a family or an override that we do not know, a config that our attention
            cannot serve, remote code, or safetensors that are missing or incomplete.
    """
    folder = checkpoint_folder(config.path)
    hf_config = load_config(config)
    attention = attention_choice(hf_config, vision_attention)
    if not config.random_weights:
        return load_weights(
            AutoModelForImageTextToText, folder, dtype=dtype, config=hf_config, attn_implementation=attention
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model: PreTrainedModel = AutoModelForImageTextToText.from_config(
            hf_config, dtype=dtype, attn_implementation=attention
        )
    return model


def build_on_meta(config: BackboneConfig, *, dtype: torch.dtype, vision_attention: str) -> PreTrainedModel:
    """Returns `load_model`'s model without weights: parameters on the meta device, buffers with their values.

    Args:
        config: Folder and overrides.
        dtype: Of all parameters.
        vision_attention: transformers' attention implementation of the vision tower.

    Raises:
        ValueError: As in `load_model`, except for the safetensors.
    """
    hf_config = load_config(config)
    attention = attention_choice(hf_config, vision_attention)
    return on_meta(
        lambda: AutoModelForImageTextToText.from_config(hf_config, dtype=dtype, attn_implementation=attention)
    )


def load_config(config: BackboneConfig) -> PreTrainedConfig:
    """Returns the model's config with the overrides.

    Raises:
        ValueError: As in `load_model`, except for the safetensors.
    """
    folder = checkpoint_folder(config.path)
    hf_config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    family_of(hf_config.model_type)
    for name, value in config.overrides.items():
        _override(hf_config, name, value)
    check_supported(hf_config)
    return hf_config


def attention_choice(config: PreTrainedConfig, vision_attention: str) -> dict[str, str]:
    """Returns transformers' attention implementation of each part: ours in the language model."""
    return {"text_config": ATTENTION_NAME, family_of(config.model_type).vision_attention_key: vision_attention}


def check_supported(config: PreTrainedConfig) -> None:
    """Checks what a packed row cannot do, and what would leave parameters without a gradient.

    Raises:
        ValueError: Sliding-window layers, attention dropout, or features taken from an inner vision layer.
    """
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ValueError(f"{config.model_type}: expected full attention in every layer, got {sorted(kinds)}")
    if getattr(text, "attention_dropout", 0.0):
        raise ValueError(
            f"{config.model_type}: packed attention has no dropout, the config asks for {text.attention_dropout}; "
            "set overrides: {text_config.attention_dropout: 0.0}"
        )
    if getattr(config, "vision_feature_layer", -1) != -1:
        raise ValueError(
            f"{config.model_type}: expected vision_feature_layer -1, got {config.vision_feature_layer}: the vision "
            "layers after it would never get a gradient"
        )


def _override(config: Any, name: str, value: Any) -> None:
    """Sets an entry of a config, or of a part of it (`text_config.rope_parameters`)."""
    *parts, entry = name.split(".")
    part = config
    for key in parts:
        part = getattr(part, key, None)
    if not hasattr(part, entry):
        raise ValueError(f"backbone.overrides: {config.model_type} has no config entry {name!r}")
    setattr(part, entry, value)
