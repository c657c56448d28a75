"""The recipe's stages as LightningModules."""

from lightning_r1v3.modules.base import VLMModule
from lightning_r1v3.modules.connector_tune import ConnectorTune
from lightning_r1v3.modules.grpo import GRPO
from lightning_r1v3.modules.sft import SFT

__all__ = ["GRPO", "SFT", "ConnectorTune", "VLMModule"]
