"""Accuracy per group of problems over the run, and whether it falls from its peak by more than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Tally:
    """Completions of one group."""

    right: float = 0.0
    """Sum of accuracy."""
    num: int = 0
    """Number of completions."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.right + other.right, self.num + other.num)

    @property
    def accuracy(self) -> float:
        """Share of right ones; NaN of none."""
        return self.right / self.num if self.num else math.nan


@dataclass(frozen=True)
class Shift:
    """A group whose accuracy has fallen."""

    group: str
    """Its name."""
    peak: float
    """Accuracy at its best."""
    now: float
    """Accuracy over the last completions."""


class GroupHistory:
    """Accuracy of one group, over blocks of at least `block` completions each."""

    def __init__(self, block: int) -> None:
        """Starts with nothing.

        Args:
            block: Completions that an accuracy is taken over.
        """
        self.block = block
        self.peak = Tally()
        self.last = Tally()
        self._filling = Tally()

    def add(self, tally: Tally) -> bool:
        """Adds completions; returns whether a block was filled."""
        self._filling += tally
        if self._filling.num < self.block:
            return False
        self.last, self._filling = self._filling, Tally()
        if not self.peak.num or self.last.accuracy > self.peak.accuracy:
            self.peak = self.last
        return True

    def has_fallen(self, min_drop: float, num_deviations: float) -> bool:
        """Returns whether the last block is below the best one by `min_drop` and by more than chance.

        Args:
            min_drop: Share of completions.
            num_deviations: Standard deviations of the difference of the two.
        """
        drop = self.peak.accuracy - self.last.accuracy
        if not drop >= min_drop:
            return False
        together = (self.peak + self.last).accuracy
        variance = together * (1 - together) * (1 / self.peak.num + 1 / self.last.num)
        return drop > num_deviations * math.sqrt(variance)

    def state_dict(self) -> dict[str, Any]:
        """Returns the tallies as dicts."""
        return {"peak": asdict(self.peak), "last": asdict(self.last), "filling": asdict(self._filling)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes them up again."""
        self.peak, self.last, self._filling = (Tally(**state[name]) for name in ("peak", "last", "filling"))


class ShiftDetector:
    """Watches groups of problems and the reward over them all."""

    def __init__(self, block: int, min_drop: float, num_deviations: float) -> None:
        """Stores the settings; see `GroupHistory`."""
        self.block = block
        self.min_drop = min_drop
        self.num_deviations = num_deviations
        self.groups: dict[str, GroupHistory] = {}
        self.fallen: set[str] = set()
        self._rewards: list[float] = []
        self._reward_sum, self._reward_count = 0.0, 0

    def add_reward(self, total: float, count: int) -> None:
        """Adds the rewards of a step: their sum and number."""
        self._reward_sum += total
        self._reward_count += count
        if self._reward_count >= self.block:
            self._rewards.append(self._reward_sum / self._reward_count)
            self._reward_sum, self._reward_count = 0.0, 0

    @property
    def reward_rises(self) -> bool:
        """Whether the mean reward of the later half of the run so far is above that of the earlier one."""
        half = len(self._rewards) // 2
        return half > 0 and sum(self._rewards[-half:]) > sum(self._rewards[:half])

    def add(self, tallies: Mapping[str, Tally]) -> list[Shift]:
        """Adds completions per group; returns the groups that have newly fallen while the reward rises.

        A group that has fallen is told again only after it was back within half of `min_drop` of its peak.
        """
        shifts = []
        for name, tally in sorted(tallies.items()):
            history = self.groups.setdefault(name, GroupHistory(self.block))
            if not history.add(tally):
                continue
            if history.peak.accuracy - history.last.accuracy < self.min_drop / 2:
                self.fallen.discard(name)
            elif self.reward_rises and history.has_fallen(self.min_drop, self.num_deviations):
                if name not in self.fallen:
                    shifts.append(Shift(name, history.peak.accuracy, history.last.accuracy))
                self.fallen.add(name)
        return shifts

    def state_dict(self) -> dict[str, Any]:
        """Returns everything counted, as dicts, lists and numbers."""
        return {
            "groups": {name: history.state_dict() for name, history in self.groups.items()},
            "fallen": sorted(self.fallen),
            "rewards": list(self._rewards),
            "reward_sum": self._reward_sum,
            "reward_count": self._reward_count,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes it up again."""
        self.groups = {}
        for name, group in state["groups"].items():
            self.groups[name] = GroupHistory(self.block)
            self.groups[name].load_state_dict(group)
        self.fallen = set(state["fallen"])
        self._rewards = list(state["rewards"])
        self._reward_sum, self._reward_count = state["reward_sum"], state["reward_count"]
