from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from r1v3_callbacks.collapse_rules import Facts, Limits
from r1v3_callbacks.collapse_watch import CollapseWatch

STEPS, ONSET = 80, 40


def healthy(step: int, noise: random.Random) -> Facts:
    """Reward rises, entropy falls and lengths grow by a half over the run; noise as in episodes of 32 completions."""
    progress = step / STEPS
    return Facts(
        entropy=0.3 * (1 - 0.5 * progress) * noise.uniform(0.8, 1.2),
        reward=0.4 + 0.2 * progress + noise.gauss(0, 0.08),
        accuracy=0.3 + 0.2 * progress + noise.gauss(0, 0.08),
        grad_norm=0.4 * math.exp(noise.gauss(0, 0.4)),
        length=100 * (1 + 0.5 * progress) + noise.gauss(0, 8),
        repetition=0.08 + noise.uniform(-0.05, 0.05),
        not_finite=0.0,
    )


def watch(**timing: int) -> CollapseWatch:
    return CollapseWatch(Limits(), **({"warmup_steps": 10, "patience": 3, "num_reference": 50} | timing))


def alarms(
    failing: Callable[[Facts, float], Facts] = lambda facts, _: facts, seed: int = 0
) -> list[tuple[int, str, dict[str, float]]]:
    noise, watched, raised = random.Random(seed), watch(), []
    for step in range(STEPS):
        since = max(0.0, (step - ONSET) / 10)
        facts = healthy(step, noise)
        raised += [
            (step, alarm.sign, alarm.evidence) for alarm in watched.add(failing(facts, since) if since else facts)
        ]
    return raised


@pytest.mark.parametrize("seed", range(20))
def test_a_healthy_run_raises_no_alarm(seed: int) -> None:
    assert alarms(seed=seed) == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("sign", "failing"),
    [
        ("entropy_collapse", lambda facts, t: replace(facts, entropy=facts.entropy * math.exp(-t))),
        ("entropy_surge", lambda facts, t: replace(facts, entropy=facts.entropy * math.exp(t))),
        ("reward_fall", lambda facts, t: replace(facts, reward=facts.reward * math.exp(-t))),
        ("accuracy_fall", lambda facts, t: replace(facts, accuracy=facts.accuracy * math.exp(-t))),
        ("grad_norm_spikes", lambda facts, t: replace(facts, grad_norm=facts.grad_norm * math.exp(2 * t))),
        ("repetition", lambda facts, t: replace(facts, repetition=min(1.0, facts.repetition + 0.2 * t))),
        ("length_runaway", lambda facts, t: replace(facts, length=facts.length * (1 + t))),
        ("not_finite", lambda facts, t: replace(facts, not_finite=1.0)),
    ],
)
def test_each_failure_is_caught_within_30_steps(sign: str, failing: Callable[[Facts, float], Facts], seed: int) -> None:
    first = alarms(failing, seed)[0]
    assert first[1] == sign
    assert ONSET < first[0] <= ONSET + 30
    assert {"entropy", "reward_before", "reward_peak_5"} <= first[2].keys()


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_fall_of_entropy_is_caught_though_it_drags_its_reference_along(seed: int) -> None:
    noise, watched = random.Random(seed), watch()
    caught = []
    for step in range(STEPS):
        facts = healthy(0, noise)
        caught += [
            (step, alarm.sign) for alarm in watched.add(replace(facts, entropy=facts.entropy * 0.5 ** (step / 35)))
        ]
    assert caught[0][1] == "entropy_collapse"
    assert 25 < caught[0][0] <= 35 + 30


def test_unrest_short_of_either_limit_means_too_high_a_rate() -> None:
    def unrest(facts: Facts, since: float) -> Facts:
        return replace(facts, entropy=1.7 * facts.entropy, reward=0.6 * facts.reward)

    # Without noise both signs stay at the same severity, below 1.
    watched, raised = watch(), []
    calm = Facts(0.3, 0.5, 0.3, 0.4, 100.0, 0.1, 0.0)
    for step in range(60):
        raised += watched.add(unrest(calm, 1.0) if step > ONSET else calm)
    assert [alarm.sign for alarm in raised][:1] == ["learning_rate_too_high"]


def test_a_failure_from_the_first_step_is_caught_after_the_warm_up() -> None:
    watched = watch()
    broken = Facts(0.8, 0.02, 0.0, 0.4, 140.0, 0.5, 0.0)
    raised = [watched.add(healthy(0, random.Random(0)) if step == 0 else broken) for step in range(15)]
    assert [step for step, found in enumerate(raised) if found] == [12]


def test_an_alarm_is_lowered_by_good_steps_only() -> None:
    watched = watch(num_reference=500)
    calm, loud = Facts(0.3, 0.5, 0.3, 0.4, 100.0, 0.1, 0.0), Facts(0.3, 0.5, 0.3, 0.4, 250.0, 0.1, 0.0)
    raised = [len(watched.add(facts)) for facts in [calm] * 20 + [loud] * 20]
    assert sum(raised) == 1
    assert watched.raised == {"length_runaway"}
    for facts in [calm] * 10:
        assert watched.add(facts) == []
    assert watched.raised == set()


def test_its_state_goes_on() -> None:
    noise, one, other = random.Random(0), watch(), watch()
    facts = [healthy(step, noise) for step in range(30)]
    for step in facts[:20]:
        one.add(step)
    other.load_state_dict(one.state_dict())
    for step in facts[20:]:
        one.add(step), other.add(step)
    assert one.state_dict() == other.state_dict()


@pytest.mark.parametrize("bad", [{"entropy_rise": 0.5}, {"reward_fall": 1.5}])
def test_limits_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="limits"):
        Limits(**bad)
