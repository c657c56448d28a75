"""The model families we know: which parameters form which module group, and how many position axes they use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ModuleGroup = Literal["vision_tower", "connector", "language_model"]
MODULE_GROUPS: tuple[ModuleGroup, ...] = ("vision_tower", "connector", "language_model")


@dataclass(frozen=True)
class Family:
    """Where a family of checkpoints keeps its three module groups."""

    vision_tower: tuple[str, ...]
    """Parameter name prefixes of the vision tower."""
    connector: tuple[str, ...]
    """Parameter name prefixes of what joins vision to language; they win over the vision tower's."""
    vision_attention_key: str = "vision_config"
    """Sub-config whose attention implementation the vision tower reads."""
    unused: tuple[str, ...] = ()
    """Prefixes of parameters that no forward pass reaches; they never train."""
    position_axes: int = 1
    """1, or 3 where rotary positions are (time, height, width)."""
    language_model: tuple[str, ...] = ("model.language_model.", "lm_head.")
    """Parameter name prefixes of the language model, embeddings and output layer included."""

    def group_of(self, parameter: str) -> ModuleGroup:
        """Returns the module group of a parameter.

        Raises:
            ValueError: The name fits no group.
        """
        if parameter.startswith(self.connector):
            return "connector"
        if parameter.startswith(self.vision_tower):
            return "vision_tower"
        if parameter.startswith(self.language_model):
            return "language_model"
        raise ValueError(f"parameter {parameter!r} belongs to no module group of {MODULE_GROUPS}: extend FAMILIES")


_QWEN_VISION = ("model.visual.",)

FAMILIES: dict[str, Family] = {
    "internvl": Family(
        vision_tower=("model.vision_tower.",),
        connector=("model.multi_modal_projector.",),
        unused=("model.vision_tower.embeddings.mask_token",),
    ),
    "qwen2_5_vl": Family(vision_tower=_QWEN_VISION, connector=("model.visual.merger.",), position_axes=3),
    "qwen3_vl": Family(
        vision_tower=_QWEN_VISION,
        connector=("model.visual.merger.", "model.visual.deepstack_merger_list."),
        position_axes=3,
    ),
    "llava_onevision": Family(
        vision_tower=("model.vision_tower.",),
        connector=("model.multi_modal_projector.", "model.image_newline"),
        unused=("model.vision_tower.post_layernorm.", "model.vision_tower.head."),
    ),
}
"""By `model_type` of the checkpoint's config."""


def family_of(model_type: str) -> Family:
    """Returns the family of a `model_type`.

    Raises:
        ValueError: We do not know it.
    """
    if model_type not in FAMILIES:
        raise ValueError(f"model_type {model_type!r} is not supported: expected one of {sorted(FAMILIES)}")
    return FAMILIES[model_type]
