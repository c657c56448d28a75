from __future__ import annotations

import pytest

from lightning_r1v3.data.mini import generate, guess_accuracy
from lightning_r1v3.types import Sample


def asked(answer: str, source: str = "mini/count") -> Sample:
    return Sample(id=answer, question="", images=(), answer=answer, source=source)


def test_the_most_frequent_answer_of_each_group_is_guessed() -> None:
    assert guess_accuracy([asked("1"), asked("1"), asked("2"), asked("9", "mini/area")]) == 0.75


def test_the_guesser_may_know_other_samples_only() -> None:
    assert guess_accuracy([asked("1"), asked("2")], [asked("2")]) == 0.5


def test_nothing_to_guess_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        guess_accuracy([])


@pytest.mark.parametrize("difficulty", ["normal", "hard"])
def test_guessing_earns_little(difficulty: str) -> None:
    samples = list(generate("train", 1500, 11, difficulty=difficulty, style="problem"))  # type: ignore[arg-type]
    assert guess_accuracy(samples[:750], samples[750:]) < 0.2
