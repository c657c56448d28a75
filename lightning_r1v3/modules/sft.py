"""Supervised fine-tuning on reasoning chains: the cold start (paper 3.2)."""

from __future__ import annotations

from lightning_r1v3.modules.supervised import Supervised


class SFT(Supervised):
    """The whole model imitates reasoning chains, so that RL starts from one that thinks; see `Supervised`."""
