from __future__ import annotations

from r1v3_callbacks.group_accuracy import ShiftDetector, Tally


def fed(detector: ShiftDetector, accuracies: list[float], rewards: list[float]) -> list[str]:
    told = []
    for accuracy, reward in zip(accuracies, rewards, strict=True):
        detector.add_reward(100 * reward, 100)
        told += [shift.group for shift in detector.add({"normal": Tally(100 * accuracy, 100), "hard": Tally(50, 100)})]
    return told


def test_a_group_that_falls_while_the_reward_rises_is_told_once() -> None:
    falling = [0.8, 0.8, 0.5, 0.5, 0.5]
    rising = [0.4, 0.5, 0.6, 0.7, 0.8]
    assert fed(ShiftDetector(100, 0.1, 4.0), falling, rising) == ["normal"]


def test_a_fall_along_with_the_reward_is_no_shift() -> None:
    assert fed(ShiftDetector(100, 0.1, 4.0), [0.8, 0.8, 0.5, 0.5], [0.8, 0.8, 0.5, 0.5]) == []


def test_chance_is_no_shift() -> None:
    assert fed(ShiftDetector(100, 0.1, 4.0), [0.6, 0.45, 0.55, 0.45], [0.4, 0.5, 0.6, 0.7]) == []


def test_a_group_that_recovers_is_told_again() -> None:
    accuracies, rewards = [0.8, 0.4, 0.8, 0.4], [0.4, 0.5, 0.6, 0.7]
    assert fed(ShiftDetector(100, 0.1, 4.0), accuracies, rewards) == ["normal", "normal"]


def test_its_state_goes_on() -> None:
    one, other = ShiftDetector(100, 0.1, 4.0), ShiftDetector(100, 0.1, 4.0)
    fed(one, [0.8, 0.8], [0.4, 0.5])
    other.load_state_dict(one.state_dict())
    assert fed(one, [0.5], [0.6]) == fed(other, [0.5], [0.6]) == ["normal"]
    assert one.state_dict() == other.state_dict()
