"""What a backbone is made from, as it stands in a YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from lightning_r1v3.backbone.families import MODULE_GROUPS, ModuleGroup

Attention = Literal["auto", "flash_attention_2", "sdpa"]
DType = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Lora:
    """Adapters: of the groups named, low-rank changes of the blocks' linear layers train instead of the weights."""

    rank: int = 16
    """Of the change, at least 1."""
    alpha: int = 32
    """The change is B·A·alpha/rank."""
    dropout: float = 0.0
    """Of the change's input, in [0, 1)."""
    groups: list[ModuleGroup] = field(default_factory=lambda: ["language_model"])
    """Module groups that train so, as far as they train at all; the other trainable ones train in full."""
    quantize: Literal["nf4"] | None = None
    """Keep the adapted layers' own weights in 4 bits (QLoRA)."""

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: A number is out of its range, or no group or an unknown one is named.
        """
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"lora: expected rank >= 1 and dropout in [0, 1), got {self.rank}, {self.dropout}")
        if not self.groups or set(self.groups) - set(MODULE_GROUPS):
            raise ValueError(f"lora.groups: expected some of {list(MODULE_GROUPS)}, got {self.groups}")


@dataclass(frozen=True)
class BackboneConfig:
    """A vision-language model in Hugging Face format, and what of it trains."""

    path: str
    """Folder of the checkpoint: config, safetensors, tokenizer, processor. No hub name: nothing is downloaded."""
    trainable: list[ModuleGroup] | None = None
    """Module groups that train; None: those of the stage, which are all three in SFT and RL (paper 5.2) and the
    connector alone after it (5.6)."""
    random_weights: bool = False
    """Build from the folder's config with random weights instead of loading its safetensors."""
    seed: int = 0
    """Of the random weights."""
    dtype: DType = "auto"
    """`auto`: bfloat16 on a GPU, float32 on a CPU."""
    attention: Attention = "auto"
    """`auto`: flash-attention 2 where it is installed and the model is on a GPU in half precision, SDPA otherwise."""
    lora: Lora | None = None
    """Train some groups by adapters, which are merged into the weights that are exported or sent to rollout engines."""
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
        if self.trainable is None:
            return
        unknown = [group for group in self.trainable if group not in MODULE_GROUPS]
        if unknown or not self.trainable or len(set(self.trainable)) != len(self.trainable):
            raise ValueError(f"trainable: expected some of {list(MODULE_GROUPS)}, each once, got {self.trainable}")
