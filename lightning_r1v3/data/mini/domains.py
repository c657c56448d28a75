"""The 20 domains of the mini world: each a way of drawing and a way of asking."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_r1v3.data.mini.looks import LOOKS, Look
from lightning_r1v3.data.mini.wordings import WORDINGS, Wording


@dataclass(frozen=True)
class Domain:
    """A subject of the mini world."""

    name: str
    """The paper's name of the domain, e.g. `environmental_science`."""
    look: Look
    """How its pictures are drawn."""
    wording: Wording
    """How its questions are put."""


DOMAINS: dict[str, Domain] = {name: Domain(name, look, WORDINGS[name]) for name, look in LOOKS.items()}
"""All 20 domains by name, from the nearest to the cold start's look to the furthest."""

SCIENCES = ("mathematics", "physics", "chemistry", "biology")
"""The four domains of the cold start."""
