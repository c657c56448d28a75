"""A PyTorch Lightning trainer for the post-training recipe of Skywork-R1V3."""

from lightning_r1v3.torchvision_repair import declare_missing_operators

__version__ = "0.1.0"

# Before anything can import torchvision: transformers does so as soon as a processor is asked for.
declare_missing_operators()
