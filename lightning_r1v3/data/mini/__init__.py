"""The mini world: procedural pictures, questions about them, and chains of reasoning that answer them."""

from __future__ import annotations

from lightning_r1v3.data.mini.domains import DOMAINS, SCIENCES
from lightning_r1v3.data.mini.guessing import guess_accuracy
from lightning_r1v3.data.mini.posing import split_of
from lightning_r1v3.data.mini.world import generate

__all__ = ["DOMAINS", "SCIENCES", "generate", "guess_accuracy", "split_of"]
