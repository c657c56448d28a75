"""An InternVL stitched out of a vision tower and a language model with a fresh connector, as R1V2 was (paper 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.internvl.modeling_internvl import InternVLMultiModalProjector

from lightning_r1v3.backbone.attention import ATTENTION_NAME
from lightning_r1v3.backbone.checkpoint import checkpoint_folder, load_weights
from lightning_r1v3.backbone.load import check_supported

DOWNSAMPLE_RATIO = 0.5
"""InternVL's pixel shuffle: four patches become one token."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Colour statistics that InternViT was trained with."""
VISION_TYPE = "internvl_vision"
LANGUAGE_TYPES = ("qwen2", "qwen3")
IMAGE_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
"""What transformers' InternVL processor asks of its tokenizer, by attribute."""
TURN_TOKENS = ("<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\\n' }}"
    "{% elif part['type'] == 'video' %}{{ '<video>\\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""InternVL's chat template without a default system prompt."""


def stitch(
    vision_tower: str, language_model: str, *, dtype: torch.dtype, vision_attention: str, seed: int
) -> tuple[PreTrainedModel, InternVLProcessor]:
    """Returns an InternVL made of two checkpoints, and its processor.

    Args:
        vision_tower: Folder of an InternViT in transformers' format (`model_type` internvl_vision).
        language_model: Folder of a Qwen2 or Qwen3 causal language model with a ChatML tokenizer.
        dtype: Of all parameters.
        vision_attention: transformers' attention implementation of the vision tower.
        seed: Of the connector, and of embeddings that new tokens need.

    Raises:
        ValueError: A folder is not a checkpoint of its kind, or the tokenizer does not speak ChatML.
    """
    vision_folder = checkpoint_folder(vision_tower, key="vision_tower")
    language_folder = checkpoint_folder(language_model, key="language_model")
    vision_config = AutoConfig.from_pretrained(vision_folder, local_files_only=True)
    text_config = AutoConfig.from_pretrained(language_folder, local_files_only=True)
    _check_types(vision_config, text_config)
    tokenizer = AutoTokenizer.from_pretrained(language_folder, local_files_only=True, **IMAGE_TOKENS)
    if missing := [token for token in TURN_TOKENS if token not in tokenizer.get_vocab()]:
        raise ValueError(f"language_model {language_model!r}: expected a ChatML tokenizer, it lacks {missing}")
    tokenizer.eos_token = TURN_TOKENS[1]
    tower = load_weights(AutoModel, vision_folder, dtype=dtype)
    language = load_weights(AutoModelForCausalLM, language_folder, dtype=dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if len(tokenizer) > language.config.vocab_size:
            language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        model = _join(tower, language, tokenizer)
    # Wrapping the parts' configs in one resets the choice.
    model.set_attn_implementation({"text_config": ATTENTION_NAME, "vision_config": vision_attention})
    return model, _processor(tower.config, tokenizer)


def _check_types(vision: PreTrainedConfig, text: PreTrainedConfig) -> None:
    if vision.model_type != VISION_TYPE:
        raise ValueError(
            f"vision_tower: expected model_type {VISION_TYPE!r}, got {vision.model_type!r}. To take the tower out of "
            "an InternVL folder: AutoModel.from_pretrained(FOLDER).vision_tower.save_pretrained(VISION_FOLDER)"
        )
    if text.model_type not in LANGUAGE_TYPES:
        raise ValueError(f"language_model: expected a model_type in {LANGUAGE_TYPES}, got {text.model_type!r}")
    side, patch = vision.image_size[0], vision.patch_size[0]
    if [side, side] != list(vision.image_size) or side % (patch / DOWNSAMPLE_RATIO):
        raise ValueError(
            f"vision_tower: expected square pictures of an even number of {patch}-pixel patches, got {side}"
        )
    check_supported(text)


def _join(tower: PreTrainedModel, language: Any, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The parts as one model; nothing is copied, only the connector is new."""
    config = InternVLConfig(
        vision_config=tower.config,
        text_config=language.config,
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=_tokens_per_tile(tower.config),
        downsample_ratio=DOWNSAMPLE_RATIO,
        tie_word_embeddings=language.config.tie_word_embeddings,
    )
    dtype = next(language.parameters()).dtype
    with torch.device("meta"):
        model = InternVLForConditionalGeneration(config)
    model.model.vision_tower = tower
    model.model.multi_modal_projector = InternVLMultiModalProjector(config).to(dtype)
    model.model.language_model = language.model
    model.lm_head = language.lm_head
    model.generation_config = language.generation_config
    return model


def _tokens_per_tile(vision: PreTrainedConfig) -> int:
    side = int(vision.image_size[0] // vision.patch_size[0] * DOWNSAMPLE_RATIO)
    return side * side


def _processor(vision: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> InternVLProcessor:
    height, width = vision.image_size
    settings = {
        "size": {"height": height, "width": width},
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    }
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(crop_to_patches=True, **settings),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(**settings),
        image_seq_length=_tokens_per_tile(vision),
        chat_template=CHATML,
    )
