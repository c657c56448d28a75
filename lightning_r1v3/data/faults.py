"""What is wrong with a sample, and what is done about it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, get_args

log = logging.getLogger(__name__)

BadSamplePolicy = Literal["skip", "raise"]
"""`skip`: name it in the log, count it and go on; `raise`: stop with a ValueError."""

NO_KEY = "-"
"""Stands for the key when a fault concerns a whole shard."""


@dataclass(frozen=True)
class Fault:
    """One bad sample, member or shard."""

    shard: str
    """Path or URL of the shard."""
    key: str
    """Key of the sample in its shard, or `-` for the shard as a whole."""
    reason: str
    """What was expected and what was found."""

    def __str__(self) -> str:
        """Returns shard, key and reason on one line."""
        return f"{self.shard}: {self.key}: {self.reason}"


def check_policy(policy: str) -> None:
    """Raises ValueError unless `policy` is one of `BadSamplePolicy`."""
    if policy not in get_args(BadSamplePolicy):
        raise ValueError(f"on_bad_sample must be one of {get_args(BadSamplePolicy)}, not {policy!r}")


def handle_fault(fault: Fault, policy: BadSamplePolicy) -> None:
    """Logs the fault, or stops.

    Raises:
        ValueError: With shard, key and reason, under the policy `raise`.
    """
    if policy == "raise":
        raise ValueError(f"bad sample: {fault}. Repair it, or set on_bad_sample to skip")
    log.warning("bad sample skipped: %s", fault)
