"""Turns task families, domains and a seed into samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as counting
from random import Random
from typing import Literal, get_args

from lightning_r1v3.data.mini.chains import boxed, chain, mimicry, solution
from lightning_r1v3.data.mini.domains import DOMAINS, SCIENCES, Domain
from lightning_r1v3.data.mini.drawing import draw
from lightning_r1v3.data.mini.posing import FAMILIES, LETTERS, Split, options, pose
from lightning_r1v3.types import Sample

Difficulty = Literal["normal", "hard"]
Style = Literal["chain", "mimicry", "caption", "answer", "solution", "problem"]

CHOICE_RATE = 1 / 3
"""Share of multiple-choice among the nine families that can be filled in; with the tenth, 40 % of all."""

_SOLUTION_REQUESTS = ("Show the calculation.", "Calculate it the other way.")
"""For the first way and for the second."""

_CAPTION_REQUESTS = ("Describe the {}.", "What does the {} show?", "Read the {}.")


def generate(
    split: Split,
    count: int,
    seed: int,
    *,
    domains: Sequence[str] = SCIENCES,
    difficulty: Difficulty = "normal",
    style: Style = "chain",
) -> Iterator[Sample]:
    """Returns `count` samples, taking the domains in turn; a pure function of its arguments.

    Args:
        split: `train`, `val` or `test`; what a picture shows is never in two of them.
        count: Number of samples; no two have the same picture, question and options.
        seed: Any integer.
        domains: Names from `DOMAINS`.
        difficulty: `normal` (one or two steps) or `hard` (more objects, composed questions).
        style: What `response` holds: a `chain`, the `mimicry` of one, a `caption` or a brief `solution` (and the
            question asks for one), a short `answer`, or None (`problem`).

    Raises:
        ValueError: An argument is not one of the named values.
    """
    for name, value, known in (
        ("split", split, get_args(Split)),
        ("difficulty", difficulty, get_args(Difficulty)),
        ("style", style, get_args(Style)),
        *(("domains", domain, tuple(DOMAINS)) for domain in domains),
    ):
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}; got {value!r}")
    if not domains:
        raise ValueError("domains: expected at least one name, got none")
    rows = [DOMAINS[name] for name in domains]
    return _distinct(_World(split, difficulty, style, seed), count, rows)


@dataclass(frozen=True)
class _World:
    """Everything but the place in the order that a sample depends on."""

    split: Split
    difficulty: Difficulty
    style: Style
    seed: int

    def sample(self, index: int, attempt: int, domain: Domain) -> Sample:
        """Returns the sample at a place of the order; `attempt` tells redraws apart."""
        key = f"{self.split}-{self.difficulty}-{self.style}-{self.seed}-{index:06d}"
        rng = Random(f"{key}/{attempt}")
        family = rng.choice([family for family in FAMILIES if family.difficulty == self.difficulty])
        puzzle, answer = pose(family, self.split, rng)
        choices = options(family, puzzle, answer, rng) if family.choices_only or rng.random() < CHOICE_RATE else None
        question = rng.choice(domain.wording.frames).format(domain.wording.name(puzzle.quantity))
        source, response = family.name, None
        letter = LETTERS[choices.index(answer)] if choices else None
        if self.style == "chain":
            response = chain(puzzle, letter, rng)
        elif self.style == "mimicry":
            response = mimicry(puzzle, letter, rng)
        elif self.style == "answer":
            response = boxed(letter or answer)
        elif self.style == "solution":
            other_way = rng.random() < 0.5  # noqa: PLR2004  an even choice
            question = f"{question} {_SOLUTION_REQUESTS[other_way]}"
            response = solution(puzzle, letter, rng, other_way=other_way)
        elif self.style == "caption":
            question, choices, letter = rng.choice(_CAPTION_REQUESTS).format(domain.wording.view), None, None
            source, answer = "caption", puzzle.scene.describe()
            response = answer
        return Sample(
            id=key,
            question=f"<image>\n{question}",
            images=(draw(puzzle.scene, domain.look, rng),),
            answer=letter or answer,
            choices=choices,
            response=response,
            domain=domain.name,
            difficulty=self.difficulty,
            source=f"mini/{source}",
        )


def _distinct(world: _World, count: int, domains: Sequence[Domain]) -> Iterator[Sample]:
    """Yields the samples in order, redrawing any that repeats an earlier one."""
    seen = set()
    for index in range(count):
        for attempt in counting():
            sample = world.sample(index, attempt, domains[index % len(domains)])
            content = sample.images[0].tobytes() + f"{sample.question}{sample.choices}".encode()
            identity = hashlib.sha256(content).digest()
            if identity not in seen:
                seen.add(identity)
                yield sample
                break
