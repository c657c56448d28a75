"""Writes a puzzle's solution as a `<think>` chain: transcribe, work it out, check it another way, answer.

The check really recomputes. In a quarter of the chains the first attempt contains a planted slip, which the check then
catches. An option is named by its letter or by its text. Beside the chains there is mimicry: their moves without the
reasoning (paper 5.1).
"""

from __future__ import annotations

from random import Random

from lightning_r1v3.data.mini.puzzles import Puzzle

SLIP_RATE = 0.25
"""Share of chains whose first attempt is wrong."""

LETTER_RATE = 0.5
"""Share of multiple-choice answers given by the option's letter; the others give its text."""

_OPENINGS = ("I see {}.", "The picture shows {}.", "Reading it: {}.")
_FIRST_RESULTS = ("So it is {}.", "That gives {}.", "So {}.")
_LEADS = ("Wait, check that:", "Wait, again:", "Alternatively,", "Alternatively, a second way:")
_CONFIRMATIONS = ("That agrees, it is {}.", "Yes, it is {}.", "The same, {}.")
_CORRECTIONS = ("That was wrong, it is {}.", "So I made a slip, it is {}.")
_OPTIONS = ("{} is option {}.", "That is {}, option {}.")


def boxed(answer: str) -> str:
    r"""Returns the short answer, e.g. `\boxed{4}`."""
    return rf"\boxed{{{answer}}}"


def solution(puzzle: Puzzle, letter: str | None, rng: Random, *, other_way: bool) -> str:
    """Returns a brief written solution: the calculation and the answer, without reading the picture out or checking.

    Args:
        puzzle: What is solved.
        letter: The right option's, or None for a fill-in question.
        rng: Chooses the wording.
        other_way: Solve it the second way.
    """
    text, truth = (puzzle.check if other_way else puzzle.work).line()
    option = " " + rng.choice(_OPTIONS).format(truth, letter) if letter else ""
    return f"{text}{option}\n{boxed(letter or truth)}"


def chain(puzzle: Puzzle, letter: str | None, rng: Random) -> str:
    """Returns the completion without its opening `<think>`.

    Args:
        puzzle: What is solved.
        letter: The right option's, or None for a fill-in question.
        rng: Chooses the wording and whether there is a slip.
    """
    _, truth = puzzle.work.line()
    slip = puzzle.work.slip(rng) if rng.random() < SLIP_RATE else None
    text, result = slip or puzzle.work.line()
    check, _ = puzzle.check.line()
    verdict = rng.choice(_CORRECTIONS if slip else _CONFIRMATIONS).format(truth)
    return _closed(
        [
            rng.choice(_OPENINGS).format(puzzle.scene.describe()),
            f"{text} {rng.choice(_FIRST_RESULTS).format(result)}",
            f"{rng.choice(_LEADS)} {check} {verdict}",
        ],
        truth,
        letter,
        rng,
    )


def mimicry(puzzle: Puzzle, letter: str | None, rng: Random) -> str:
    """Returns a completion with the moves of a chain and nothing in them: no transcription, no work, no check.

    Its answer is right, as in rejection-sampled chains, where nothing but the answer is checked.

    Args:
        puzzle: What is solved.
        letter: The right option's, or None for a fill-in question.
        rng: Chooses the wording.
    """
    _, truth = puzzle.work.line()
    leads = rng.sample(_LEADS, 3)
    checks = [f"{lead} {rng.choice(_CONFIRMATIONS).format(truth)}" for lead in leads]
    return _closed([rng.choice(_FIRST_RESULTS).format(truth), *checks], truth, letter, rng)


def _closed(lines: list[str], truth: str, letter: str | None, rng: Random) -> str:
    """The reasoning with its option, the closing tag and the answer: a letter, or the option's text."""
    if letter and rng.random() < LETTER_RATE:
        return "\n".join([*lines, rng.choice(_OPTIONS).format(truth, letter)]) + _ending(letter)
    return "\n".join(lines) + _ending(truth)


def _ending(answer: str) -> str:
    return f"</think>\nThe answer is {boxed(answer)}."
