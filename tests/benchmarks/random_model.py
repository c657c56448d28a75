"""The randomly initialised InternVL, of 20 M parameters and more, that the benchmarks against TRL train."""

from __future__ import annotations

import lightning_r1v3  # noqa: F401  (before transformers imports torchvision)

# isort: split
import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration, ProcessorMixin

WIDTH, DEPTH, HEADS, VOCABULARY = 384, 6, 6, 8192
VISION_WIDTH, VISION_DEPTH, VISION_HEADS = 192, 4, 4


def random_internvl(
    processor: ProcessorMixin, *, pixels: int, patch: int, seed: int
) -> InternVLForConditionalGeneration:
    """Returns the model.

    Args:
        processor: That it is saved with; says how many tokens a picture has.
        pixels: Side of a picture.
        patch: Side of a patch, in pixels.
        seed: Of the weights.
    """
    tokenizer = processor.tokenizer
    text = {
        "model_type": "qwen2",
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "vocab_size": VOCABULARY,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = {
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 4 * VISION_WIDTH,
        "num_hidden_layers": VISION_DEPTH,
        "num_attention_heads": VISION_HEADS,
        "image_size": [pixels, pixels],
        "patch_size": [patch, patch],
    }
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids(tokenizer.context_image_token),
        image_seq_length=processor.image_seq_length,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    return InternVLForConditionalGeneration(config)
