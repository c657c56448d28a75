"""The clock of transformers' Trainer, for the peers that build on it."""

from __future__ import annotations

import time

from transformers import TrainerCallback


class Clock(TrainerCallback):
    """Notes when each step ends: what lies between two ends is a whole step, its data included."""

    def __init__(self) -> None:
        self.ends, self.cpu_ends = [], []

    def on_step_end(self, *_args, **_kwargs) -> None:
        self.ends.append(time.perf_counter())
        self.cpu_ends.append(time.process_time())
