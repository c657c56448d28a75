"""What a backbone is made from, as it stands in a YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from lightning_r1v3.backbone.families import MODULE_GROUPS, ModuleGroup

Attention = Literal["auto", "flash_attention_2", "sdpa"]
DType = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class BackboneConfig:
    """A vision-language model in Hugging Face format, and what of it trains."""

    path: str
    """Folder of the checkpoint: config, safetensors, tokenizer, processor. No hub name: nothing is downloaded."""
    trainable: list[ModuleGroup] = field(default_factory=lambda: list(MODULE_GROUPS))
    """Module groups that train; the paper trains all three in RL (5.2) and the connector alone after it (5.6)."""
    random_weights: bool = False
    """Build from the folder's config with random weights instead of loading its safetensors."""
    seed: int = 0
    """Of the random weights."""
    dtype: DType = "auto"
    """`auto`: bfloat16 on a GPU, float32 on a CPU."""
    attention: Attention = "auto"
    """`auto`: flash-attention 2 where it is installed and the model is on a GPU in half precision, SDPA otherwise."""
    gradient_checkpointing: bool = False
    """Recompute each block in the backward pass."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Entries of the model's config to change before it is built, e.g. `tie_word_embeddings`; a dot leads into a part
    (`text_config.rope_parameters`)."""

    def __post_init__(self) -> None:
        """Checks the groups.

        Raises:
            ValueError: A group is unknown, named twice, or none is named.
        """
        unknown = [group for group in self.trainable if group not in MODULE_GROUPS]
        if unknown or not self.trainable or len(set(self.trainable)) != len(self.trainable):
            raise ValueError(f"trainable: expected some of {list(MODULE_GROUPS)}, each once, got {self.trainable}")
