"""The vision-language backbone that every stage shares."""

from lightning_r1v3.backbone.backbone import Backbone
from lightning_r1v3.backbone.config import BackboneConfig
from lightning_r1v3.backbone.families import MODULE_GROUPS, ModuleGroup

__all__ = ["MODULE_GROUPS", "Backbone", "BackboneConfig", "ModuleGroup"]
