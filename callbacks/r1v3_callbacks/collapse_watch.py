"""Alarms with hysteresis: raised after several bad steps, lowered after several good ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1v3_callbacks.collapse_rules import Facts, History, Limits, severities

LOWERED_BELOW = 0.7
"""Severity below which a step is good again: an alarm does not flicker around 1."""


@dataclass(frozen=True)
class Alarm:
    """A sign that has been there for several steps."""

    sign: str
    """Its name, e.g. `entropy_collapse`."""
    severity: float
    """1 at the limit, more beyond."""
    evidence: dict[str, float]
    """What was measured: `FACT` as it is now, `FACT_before`, and `FACT_peak_N`, the highest median of N steps."""


class CollapseWatch:
    """Takes in one step after the other and says which alarms it raises."""

    def __init__(self, limits: Limits, *, warmup_steps: int, patience: int, num_reference: int) -> None:
        """Stores the settings.

        Args:
            limits: Of the signs.
            warmup_steps: First steps, without an alarm.
            patience: Bad steps in a row that raise an alarm, and good ones that lower it.
            num_reference: Steps, at most, that tell how things were.
        """
        self.limits = limits
        self.warmup_steps = warmup_steps
        self.patience = patience
        self.history = History(num_reference)
        self.raised: set[str] = set()
        self.severities: dict[str, float] = {}
        self._streaks: dict[str, int] = {}
        self._quiet_until = warmup_steps

    @property
    def is_healthy(self) -> bool:
        """Whether no sign is near its limit."""
        return not self.raised and all(value < LOWERED_BELOW for value in self.severities.values())

    def add(self, facts: Facts) -> list[Alarm]:
        """Adds a step; returns the alarms that it raises, the gravest first."""
        self.history.add(facts)
        self.severities = severities(self.history, self.limits)
        if self.history.num_steps <= self._quiet_until:
            return []
        alarms = []
        for sign, severity in self.severities.items():
            changes = severity < LOWERED_BELOW if sign in self.raised else severity >= 1
            self._streaks[sign] = self._streaks.get(sign, 0) + 1 if changes else 0
            if self._streaks[sign] < self.patience:
                continue
            self._streaks[sign] = 0
            if sign in self.raised:
                self.raised.discard(sign)
            else:
                self.raised.add(sign)
                alarms.append(Alarm(sign, severity, self._evidence()))
        return sorted(alarms, key=lambda alarm: -alarm.severity)

    def pause(self, num_steps: int) -> None:
        """Lowers all alarms, and raises none for some steps."""
        self.raised.clear()
        self._streaks.clear()
        self.severities = {}
        self._quiet_until = self.history.num_steps + num_steps

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that it remembers, as dicts, lists and numbers."""
        return {
            "history": self.history.state_dict(),
            "raised": sorted(self.raised),
            "streaks": dict(self._streaks),
            "severities": dict(self.severities),
            "quiet_until": self._quiet_until,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes it up again."""
        self.history.load_state_dict(state["history"])
        self.raised = set(state["raised"])
        self._streaks = dict(state["streaks"])
        self.severities = dict(state["severities"])
        self._quiet_until = state["quiet_until"]

    def _evidence(self) -> dict[str, float]:
        evidence = {key.replace("/", "_peak_"): peak for key, peak in self.history.peaks.items()}
        for name in self.history.values:
            evidence |= {name: self.history.recent(name), f"{name}_before": self.history.before(name)}
        return {name: value for name, value in evidence.items() if abs(value) < float("inf")}
