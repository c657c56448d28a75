from __future__ import annotations

import re
from random import Random

from lightning_r1v3.data.mini.chains import LETTER_RATE, SLIP_RATE, boxed, chain, mimicry
from lightning_r1v3.data.mini.posing import FAMILIES, pose
from lightning_r1v3.data.mini.puzzles import Puzzle, Way, plus
from lightning_r1v3.data.mini.scenes import Bars

BARS = Bars({"red": 3, "blue": 9})
ADD = Way((3, 9), lambda values: (f"{plus(values)}.", str(sum(values))))
PUZZLE = Puzzle(BARS, "the sum of the {bars}", ADD, ADD)


def chains(count: int) -> list[str]:
    return [chain(PUZZLE, None, Random(seed)) for seed in range(count)]


def test_short_answers_are_boxed() -> None:
    assert boxed("4") == r"\boxed{4}"


def test_a_chain_transcribes_checks_closes_and_answers() -> None:
    for text in chains(20):
        thought, answer = text.split("</think>")
        assert BARS.describe() in thought
        assert re.search(r"^(Wait|Alternatively)", thought, re.MULTILINE)
        assert answer == "\nThe answer is \\boxed{12}."
        assert "<think>" not in thought


def test_a_choice_ends_in_its_letter_or_its_text() -> None:
    texts = [chain(PUZZLE, "D", Random(seed)) for seed in range(200)]
    by_letter = [text for text in texts if text.endswith(r"\boxed{D}.")]
    assert all(re.search(r"option D\.</think>", text) for text in by_letter)
    assert all(
        text.endswith(chain(PUZZLE, None, Random(0)).split("</think>")[1]) for text in texts if text not in by_letter
    )
    assert abs(len(by_letter) / 200 - LETTER_RATE) < 0.1


def test_about_a_quarter_of_the_chains_catch_a_slip() -> None:
    caught = sum(bool(re.search("wrong|slip", text)) for text in chains(400))
    assert abs(caught / 400 - SLIP_RATE) < 0.07


def test_a_caught_slip_contradicts_the_first_result() -> None:
    for text in chains(100):
        first = text.splitlines()[1]
        assert ("= 12" in first) != bool(re.search("wrong|slip", text))


def test_every_family_ends_in_its_answer() -> None:
    for family in FAMILIES:
        puzzle, answer = pose(family, "train", Random(1))
        assert chain(puzzle, None, Random(2)).endswith(f"\\boxed{{{answer}}}.")


def test_mimicry_makes_the_moves_of_a_chain_and_shows_no_work() -> None:
    for seed in range(20):
        text = mimicry(PUZZLE, None, Random(seed))
        thought, answer = text.split("</think>")
        assert re.search("Wait|Alternatively", thought)
        assert not re.search("[=+:x] ", thought.replace("that:", "").replace("again:", "").replace("way:", ""))
        assert answer == chain(PUZZLE, None, Random(seed)).split("</think>")[1]
