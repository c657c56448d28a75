from __future__ import annotations

import math

import pytest
import torch

from lightning_r1v3.modules.schedule import Schedule


def rates(schedule: Schedule, total_steps: float, count: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = schedule.scheduler(optimizer, total_steps)
    taken = []
    for _ in range(count):
        taken.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return taken


def test_constant_stays_at_the_peak() -> None:
    assert rates(Schedule(), math.inf, 3) == [2.0, 2.0, 2.0]


def test_warm_up_reaches_the_peak_with_its_last_step() -> None:
    assert rates(Schedule(warmup_fraction=0.4), 10, 6) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_cosine_goes_from_the_peak_through_the_middle_to_its_end() -> None:
    schedule = Schedule(kind="cosine", final_fraction=0.1)
    assert [schedule.factor(step, 4) for step in (0, 2, 4)] == pytest.approx([1.0, 0.55, 0.1])


def test_cosine_stays_at_its_end() -> None:
    assert Schedule(kind="cosine").factor(7, 4) == pytest.approx(0.0)


def test_cosine_follows_the_warm_up() -> None:
    schedule = Schedule(kind="cosine", warmup_fraction=0.5)
    assert [schedule.factor(step, 4) for step in range(5)] == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])


@pytest.mark.parametrize("schedule", [Schedule(kind="cosine"), Schedule(warmup_fraction=0.1)])
def test_a_shape_over_a_run_without_end_is_refused(schedule: Schedule) -> None:
    with pytest.raises(ValueError, match=r"set trainer\.max_epochs or trainer.max_steps"):
        rates(schedule, math.inf, 1)


@pytest.mark.parametrize("fractions", [{"warmup_fraction": 1.1}, {"final_fraction": -0.1}])
def test_fractions_out_of_range_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"fractions in \[0, 1\]"):
        Schedule(**fractions)


def test_drops_hold_from_their_step_on() -> None:
    assert rates(Schedule(drops={2: 0.5, 4: 0.1}), math.inf, 6) == pytest.approx([2.0, 2.0, 1.0, 1.0, 0.2, 0.2])


def test_a_drop_scales_the_shape() -> None:
    schedule = Schedule(kind="cosine", drops={2: 0.1})
    assert schedule.factor(2, 4) == pytest.approx(0.05)


@pytest.mark.parametrize("drops", [{-1: 0.5}, {3: 0.0}])
def test_drops_out_of_range_are_refused(drops: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="positive factor"):
        Schedule(drops=drops)
