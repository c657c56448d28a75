"""How much a blind guesser earns on a set of samples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from lightning_r1v3.types import Sample

Group = tuple[str, str, bool]


def _group(sample: Sample) -> Group:
    return sample.source, sample.difficulty, sample.choices is not None


def guess_accuracy(samples: Sequence[Sample], known: Sequence[Sample] | None = None) -> float:
    """Returns the accuracy in [0, 1] of giving the most frequent answer per family, difficulty and kind of question.

    Args:
        samples: What is guessed.
        known: Samples whose answers the guesser has counted; None: `samples` themselves, which flatters it in small
            groups.

    Raises:
        ValueError: `samples` is empty.
    """
    if not samples:
        raise ValueError("guess_accuracy expected at least one sample, got none")
    answers: defaultdict[Group, Counter[str]] = defaultdict(Counter)
    for sample in samples if known is None else known:
        answers[_group(sample)][sample.answer] += 1
    guesses = {group: counter.most_common(1)[0][0] for group, counter in answers.items()}
    return sum(guesses.get(_group(sample)) == sample.answer for sample in samples) / len(samples)
