"""What training takes of a GPU's memory, from the model's config alone.

Counts of activations are those that transformers' decoder and vision blocks keep for the backward pass; measured peaks
of models that fit on a workstation agree within 25 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from lightning_r1v3.backbone.families import Family
from lightning_r1v3.backbone.sharding import sharding_plan
from lightning_r1v3.objectives.token_stats import MAX_CHUNK_LOGITS

FLOAT = 4
"""Bytes of a float32."""
PATCHES_PER_IMAGE_TOKEN = 4
"""Vision tokens that become one token of the language model (2 x 2 are joined)."""


@dataclass(frozen=True)
class Workload:
    """How a model is trained."""

    shards: int = 1
    """Processes over which parameters, gradients and optimizer state are split; 1: whole on each."""
    row_tokens: int = 16384
    """Longest packed row."""
    image_fraction: float = 0.25
    """Share of its tokens that stand for pictures."""
    storage_dtype: torch.dtype = torch.float32
    """Of parameters, gradients and optimizer state."""
    compute_dtype: torch.dtype = torch.bfloat16
    """Of gathered parameters and activations."""
    optimizer_bytes: int = 8
    """Of a parameter's optimizer state: 8 for AdamW in float32, 4 in bfloat16, 2 in 8 bits."""
    gradient_checkpointing: bool = True
    """Only the blocks' inputs are kept, and one block's insides at a time."""


def training_memory(model: PreTrainedModel, family: Family, work: Workload) -> dict[str, int]:
    """Returns bytes per GPU by cause.

    Args:
        model: With `requires_grad` set; may be on the meta device.
        family: The model's.
        work: How it is trained.
    """
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    total = sum(sizes.values())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    memory = {
        "weights": total * work.storage_dtype.itemsize // work.shards,
        "gradients": trained * work.storage_dtype.itemsize // work.shards,
        "optimizer": trained * work.optimizer_bytes // work.shards,
    }
    if work.shards > 1:
        plan = sharding_plan(model, family)
        root = sum(sizes[name] for name in plan.root)
        largest = max(sum(sizes[name] for name in unit.parameters) for unit in plan.units)
        # The root and two units (one runs, the next arrives) are whole; so are one unit's and the root's gradients.
        memory["gathered"] = (2 * root + 3 * largest) * work.compute_dtype.itemsize + largest * FLOAT
    memory["activations"] = activation_memory(model, work)
    return memory


def activation_memory(model: PreTrainedModel, work: Workload) -> int:
    """Returns the bytes that one row's forward pass keeps for its backward pass, and the most that this adds."""
    text, vision = model.config.get_text_config(), model.config.vision_config
    item = work.compute_dtype.itemsize
    upcast = 2 * FLOAT if work.compute_dtype != torch.float32 else 0  # RMS norms compute in float32
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    decoder = item * (6 * text.hidden_size + (3 * heads + 2 * text.num_key_value_heads) * width)
    decoder += item * 4 * text.intermediate_size + upcast * text.hidden_size
    block = item * (12 * vision.hidden_size + 2 * vision.intermediate_size)
    patches = int(work.row_tokens * work.image_fraction * PATCHES_PER_IMAGE_TOKEN)
    num_blocks = getattr(vision, "num_hidden_layers", None) or vision.depth
    logits = 2 * FLOAT * min(MAX_CHUNK_LOGITS, work.row_tokens * text.vocab_size)
    if not work.gradient_checkpointing:
        return int(work.row_tokens * text.num_hidden_layers * decoder + patches * num_blocks * block + logits)
    inputs = item * (
        work.row_tokens * text.num_hidden_layers * text.hidden_size + patches * num_blocks * vision.hidden_size
    )
    gradients = item * 3 * text.intermediate_size  # of the block that is run again
    one_block = max(work.row_tokens * (decoder + gradients), patches * (block + item * 3 * vision.intermediate_size))
    return int(inputs + max(one_block, logits))


def kv_cache_bytes_per_token(model: PreTrainedModel, dtype: torch.dtype) -> int:
    """Returns what a rollout engine keeps of each token."""
    text = model.config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_layer: int = 2 * text.num_key_value_heads * width * dtype.itemsize
    return int(text.num_hidden_layers * per_layer)
