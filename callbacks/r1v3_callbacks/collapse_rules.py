"""The signs of a collapse, each as a severity that reaches 1 where it is beyond doubt (paper 5.2, 5.4, 5.5).

A severity compares how things are (the median of the last steps) with how they were (the median before these), and
counts only what exceeds the scatter of a healthy run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from r1v3_callbacks.robust import middle, scatter, trend

NUM_RECENT = 5
"""Steps that tell how things are."""
MEDIAN_ERROR = 0.56
"""Standard deviation of the median of so many values, in standard deviations of one."""
NUM_LONG = 15
"""Steps that tell it where a fall is slow: their median scatters half as much."""
TINY = 1e-6
"""In place of 0 in logarithms and quotients."""
EARLY_DOUBT = 0.3
"""Share of a peak that may be chance before there are so many steps."""
NUM_SPIKES, SPIKE_STEPS = 3, 10
"""So many of the last steps must stick out: one alone is clipped, and means nothing."""


@dataclass(frozen=True)
class Facts:
    """One optimizer step, over all processes; NaN where the module does not tell."""

    entropy: float
    """Nats, mean over tokens."""
    reward: float
    """Mean over completions."""
    accuracy: float
    """Mean over completions, in [0, 1]."""
    grad_norm: float
    """Before clipping."""
    length: float
    """Tokens, mean over completions."""
    repetition: float
    """Share of repeated n-grams, mean over completions, in [0, 1]."""
    not_finite: float
    """1.0 where loss, entropy or gradient is not finite, else 0.0."""


@dataclass(frozen=True)
class Limits:
    """Where each severity is 1."""

    entropy_fall: float = 0.4
    """Share of the earlier entropy that is left."""
    entropy_slow_fall: float = 0.5
    """Likewise, from the first to the last step that is remembered: a fall in small steps drags its reference along."""
    entropy_rise: float = 2.0
    """Times the earlier entropy."""
    reward_fall: float = 0.4
    """Share of the peak of reward or accuracy that is lost."""
    grad_norm_rise: float = 5.0
    """Times the earlier norm, in several of the last steps."""
    repetition_rise: float = 0.15
    """More of the n-grams repeat than before."""
    length_rise: float = 2.0
    """Times the earlier length."""
    num_scatter: float = 3.5
    """Standard deviations of chance, at least, for any of these."""
    unrest: float = 0.5
    """Share of the limits of entropy surge and reward fall from which both together mean too high a learning rate."""
    num_not_finite: int = 3
    """Of the last ten steps."""

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: One is out of its range.
        """
        shares = (self.entropy_fall, self.entropy_slow_fall, self.reward_fall, self.repetition_rise, self.unrest)
        factors = (self.entropy_rise, self.grad_norm_rise, self.length_rise)
        if not all(0 < share < 1 for share in shares) or not all(factor > 1 for factor in factors):
            raise ValueError(f"limits: expected shares in (0, 1) and factors above 1, got {self}")


class History:
    """What the rules look at: the recent steps, those before, the start, and the best there was."""

    def __init__(self, num_reference: int) -> None:
        """Starts with nothing.

        Args:
            num_reference: Steps, at most, that tell how things were.
        """
        self.num_kept = NUM_RECENT + num_reference
        self.values: dict[str, list[float]] = {field.name: [] for field in fields(Facts)}
        self.start: dict[str, list[float]] = {name: [] for name in self.values}
        self.peaks = {f"{name}/{num}": -math.inf for name in ("reward", "accuracy") for num in (NUM_RECENT, NUM_LONG)}
        self.num_steps = 0

    def add(self, facts: Facts) -> None:
        """Adds a step."""
        self.num_steps += 1
        for name, values in self.values.items():
            value = getattr(facts, name)
            self.values[name] = [*values, value][-self.num_kept :]
            if len(self.start[name]) < NUM_RECENT:
                self.start[name].append(value)
        for key, peak in self.peaks.items():
            name, _, num = key.partition("/")
            value = self.recent(name, int(num))
            # From the first step on, because a rate that is far too high leaves no second good one; but less trusted.
            doubt = EARLY_DOUBT * abs(value) if self.num_steps < int(num) else 0.0
            if value - doubt > peak:
                self.peaks[key] = value - doubt

    def recent(self, name: str, num_steps: int = NUM_RECENT) -> float:
        """Returns how things are."""
        return middle(self.values[name][-num_steps:])

    def before(self, name: str) -> float:
        """Returns how things were: the reference or, as long as that is short, the start of the run."""
        values = self.values[name]
        return middle(self.start[name] if len(values) < 3 * NUM_RECENT else values[:-NUM_RECENT])

    def scatter(self, name: str) -> float:
        """Returns how much single steps scatter, lately or all along."""
        values = self.values[name]
        return max(scatter(values[-NUM_LONG:]), scatter(values))

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that it remembers, as dicts, lists and numbers."""
        return {
            "values": {name: list(values) for name, values in self.values.items()},
            "start": {name: list(values) for name, values in self.start.items()},
            "peaks": dict(self.peaks),
            "num_steps": self.num_steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes it up again."""
        for name in self.values:
            self.values[name] = list(state["values"][name])
            self.start[name] = list(state["start"][name])
        self.peaks, self.num_steps = dict(state["peaks"]), state["num_steps"]


def entropy_collapse(history: History, limits: Limits) -> float:
    """The policy stops exploring, at once or step by step."""
    quick = _log_ratio(history, "entropy", limits.num_scatter)
    slow = _log_rise(history, "entropy", limits.num_scatter)
    return max(quick / math.log(limits.entropy_fall), slow / math.log(limits.entropy_slow_fall))


def entropy_surge(history: History, limits: Limits) -> float:
    """The policy unlearns what it had settled on (paper 5.4)."""
    return _log_ratio(history, "entropy", limits.num_scatter) / math.log(limits.entropy_rise)


def reward_fall(history: History, limits: Limits) -> float:
    """The reward falls from its peak."""
    return _fall(history, "reward", limits)


def accuracy_fall(history: History, limits: Limits) -> float:
    """Accuracy falls from its peak, whatever the reward does: the policy is paid for something else."""
    return _fall(history, "accuracy", limits)


def grad_norm_spikes(history: History, limits: Limits) -> float:
    """Gradients stick out again and again (paper 5.2, 5.5)."""
    last = [value for value in history.values["grad_norm"][-SPIKE_STEPS:] if math.isfinite(value)]
    usual = history.before("grad_norm")
    if len(last) < NUM_SPIKES or not usual > 0:
        return 0.0
    return math.log(max(sorted(last)[-NUM_SPIKES], TINY) / usual) / math.log(limits.grad_norm_rise)


def repetition(history: History, limits: Limits) -> float:
    """The policy repeats itself (paper 5.2)."""
    rise = history.recent("repetition") - history.before("repetition")
    return rise / max(limits.repetition_rise, limits.num_scatter * history.scatter("repetition"))


def length_runaway(history: History, limits: Limits) -> float:
    """Completions get longer and longer."""
    return _log_ratio(history, "length", limits.num_scatter) / math.log(limits.length_rise)


def learning_rate_too_high(history: History, limits: Limits) -> float:
    """Entropy rises while the reward falls, both short of their own limits: the updates undo each other (paper 5.4)."""
    both = min(entropy_surge(history, limits), reward_fall(history, limits))
    return both / limits.unrest


def not_finite(history: History, limits: Limits) -> float:
    """Loss, entropy or gradient is infinite or no number."""
    return sum(history.values["not_finite"][-SPIKE_STEPS:]) / limits.num_not_finite


RULES: dict[str, Callable[[History, Limits], float]] = {
    rule.__name__: rule
    for rule in (
        entropy_collapse,
        entropy_surge,
        reward_fall,
        accuracy_fall,
        grad_norm_spikes,
        repetition,
        length_runaway,
        learning_rate_too_high,
        not_finite,
    )
}
"""Each sign by its name."""


def severities(history: History, limits: Limits) -> dict[str, float]:
    """Returns each sign's severity: 0 where there is nothing to tell it from, 1 at its limit."""
    found = {name: rule(history, limits) for name, rule in RULES.items()}
    return {name: value if value > 0 else 0.0 for name, value in found.items()}  # NaN becomes 0


def _log_ratio(history: History, name: str, num_scatter: float) -> float:
    """Logarithm of how things are over how they were; 0 within the scatter of a median."""
    now, before = history.recent(name), history.before(name)
    if not abs(now - before) > num_scatter * MEDIAN_ERROR * history.scatter(name):
        return 0.0
    return math.log(max(now, TINY) / max(before, TINY))


def _log_rise(history: History, name: str, num_scatter: float) -> float:
    """Logarithm of the last value over the first that is remembered, by their trend; 0 where it may be chance."""
    values = [math.log(max(value, TINY)) for value in history.values[name] if math.isfinite(value)]
    if len(values) < 2 * NUM_LONG:
        return 0.0
    rise = trend(values)
    error = scatter(values) * math.sqrt(12 / len(values))
    return rise if abs(rise) > num_scatter * error else 0.0


def _fall(history: History, name: str, limits: Limits) -> float:
    """How far below its peak a number is, beyond the scatter: quickly, or slowly but surely."""
    fallen = []
    for num_steps in (NUM_RECENT, NUM_LONG):
        peak = history.peaks[f"{name}/{num_steps}"]
        chance = limits.num_scatter * history.scatter(name) * math.sqrt(NUM_RECENT / num_steps)
        drop = peak - history.recent(name, num_steps)
        fallen.append(drop / max(limits.reward_fall * abs(peak), chance, TINY))
    return max(fallen)
