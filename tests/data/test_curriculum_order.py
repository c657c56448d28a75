from __future__ import annotations

import pytest

from lightning_r1v3.data.curriculum_order import CurriculumOrder

DIFFICULTIES = ["normal"] * 6 + ["hard"] * 4
BATCH = 2


def drawn(phases: dict[int, list[str]], epochs: int = 1, seed: int = 0) -> list[int]:
    order = CurriculumOrder(DIFFICULTIES, phases, BATCH, seed=seed)
    return [number for epoch in range(epochs) for number in order.epoch(epoch).tolist()]


def test_difficulties_follow_one_another_by_step() -> None:
    numbers = drawn({0: ["normal"], 3: ["hard"]})
    assert sorted(numbers[:6]) == [0, 1, 2, 3, 4, 5]
    assert sorted(numbers[6:]) == [6, 7, 8, 9]


def test_a_phase_goes_on_over_epochs_and_through_each_sample_before_one_repeats() -> None:
    numbers = drawn({0: ["normal"], 8: ["hard"]}, epochs=2)
    assert sorted(numbers[:6]) == sorted(numbers[6:12]) == [0, 1, 2, 3, 4, 5]
    assert numbers[:6] != numbers[6:12]
    assert all(number < 6 for number in numbers[:16])
    assert sorted(numbers[16:]) == sorted({*numbers[16:]})
    assert all(number >= 6 for number in numbers[16:])


def test_a_phase_of_several_difficulties_mixes_them() -> None:
    assert sorted(drawn({0: ["normal", "hard"]})) == list(range(10))


def test_the_order_depends_on_the_seed_alone() -> None:
    phases = {0: ["normal"], 3: ["hard"]}
    assert drawn(phases) == drawn(phases)
    assert drawn(phases) != drawn(phases, seed=1)


@pytest.mark.parametrize("phases", [{}, {1: ["normal"]}, {0: ["normal"], -1: ["hard"]}])
def test_phases_start_at_the_first_step(phases: dict[int, list[str]]) -> None:
    with pytest.raises(ValueError, match="from 0 on"):
        drawn(phases)


def test_a_difficulty_that_no_sample_has_is_named() -> None:
    with pytest.raises(ValueError, match=r"\['harder'\]; there are \['hard', 'normal'\]"):
        drawn({0: ["normal"], 3: ["harder"]})
