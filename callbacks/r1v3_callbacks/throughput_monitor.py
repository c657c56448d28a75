"""Tokens and samples per second, where the time goes, memory, and how much of the device's peak is used."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.utilities.throughput import get_available_flops

from r1v3_callbacks.contract import Keys, entries
from r1v3_callbacks.step_callback import StepCallback

GIB = 2**30
FLOPS_PER_PARAMETER = 6
"""Of forward and backward, for a token and a parameter: a multiplication and an addition, three times."""


@dataclass(frozen=True)
class Work:
    """What a process did in a micro-batch."""

    num_tokens: int = 0
    """Tokens of completions."""
    num_samples: int = 0
    """Completions."""
    phase_seconds: dict[str, float] = field(default_factory=dict)
    """By phase."""
    seconds: float = 0.0
    """Since the micro-batch before, validation and checkpoints left out."""
    memory: int = 0
    """Bytes: peak of the device, or of the process on a CPU."""


class ThroughputMonitor(StepCallback):
    """Logs the speed of each optimizer step, over all processes.

    - `throughput/tokens_per_second`, `…/samples_per_second`: completions, by the slowest process's clock;
    - `throughput/PHASE_share`: share of the step in each phase of `phase_seconds` (generate, score, update, sync, …),
      and `…/other_share`: in none of them, data loading for instance;
    - `throughput/memory_gib`: highest peak of any process;
    - `throughput/mfu`: model FLOPs per second over the peak of the devices, where that is known: 6 per parameter and
      completion token, whatever the module does beside (generation, prompts), so it is a lower bound.
    """

    def __init__(
        self, flops_per_token: float | None = None, peak_flops: float | None = None, keys: Keys | None = None
    ) -> None:
        """Stores the settings.

        Args:
            flops_per_token: Of a training step; by default 6 times the number of parameters.
            peak_flops: Of one device, per second; by default what Lightning knows of the GPU, and none of a CPU.
            keys: Names of the entries of the dict that the step returns; `phase_seconds` may be missing.

        Raises:
            ValueError: A number is not positive.
        """
        super().__init__(keys)
        for name, value in (("flops_per_token", flops_per_token), ("peak_flops", peak_flops)):
            if value is not None and value <= 0:
                raise ValueError(f"{name}: expected a positive number or null, got {value}")
        self.flops_per_token = flops_per_token
        self.peak_flops = peak_flops
        self._clock = 0.0
        self._paused = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts the parameters, finds the device's peak, starts the clock."""
        super().on_train_start(trainer, pl_module)
        if self.flops_per_token is None:
            self.flops_per_token = FLOPS_PER_PARAMETER * float(sum(p.numel() for p in pl_module.parameters()))
        if self.peak_flops is None and pl_module.device.type == "cuda":
            dtype = next((p.dtype for p in pl_module.parameters()), torch.float32)
            precision = torch.bfloat16 if "bf16" in str(trainer.precision) else dtype
            self.peak_flops = get_available_flops(pl_module.device, precision)
        self._clock = time.perf_counter()

    def read(self, trainer: Trainer, pl_module: LightningModule, outputs: Mapping[str, Any]) -> Work:
        """Returns what was done since the micro-batch before."""
        (mask,) = entries(outputs, (self.keys.token_mask,), "ThroughputMonitor")
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        return Work(
            num_tokens=int(mask.sum()),
            num_samples=int(mask.any(dim=1).sum()),
            phase_seconds=dict(outputs.get(self.keys.phase_seconds, {})),
            seconds=seconds,
            memory=_peak_memory(pl_module.device),
        )

    def on_step(self, trainer: Trainer, pl_module: LightningModule, parts: list[Work]) -> None:
        """Logs the step."""
        metrics = throughput(parts, trainer.world_size)
        if self.peak_flops is not None and self.flops_per_token is not None:
            per_device = metrics["tokens_per_second"] * self.flops_per_token / trainer.world_size
            metrics["mfu"] = per_device / self.peak_flops
        pl_module.log_dict({f"throughput/{name}": value for name, value in metrics.items()})

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts it again."""
        self._clock += time.perf_counter() - self._paused


def throughput(parts: list[Work], num_processes: int) -> dict[str, float]:
    """Returns speed, shares and memory of a step.

    Args:
        parts: Of all micro-batches; those of a process follow each other, and all processes have equally many.
        num_processes: Number of processes.
    """
    per_process = len(parts) // num_processes
    spans = [parts[rank * per_process : (rank + 1) * per_process] for rank in range(num_processes)]
    seconds = max(1e-9, *(sum(part.seconds for part in span) for span in spans))
    all_seconds = max(1e-9, sum(part.seconds for part in parts))
    phases = sorted({phase for part in parts for phase in part.phase_seconds})
    shares = {
        f"{phase}_share": sum(part.phase_seconds.get(phase, 0.0) for part in parts) / all_seconds for phase in phases
    }
    return {
        "tokens_per_second": sum(part.num_tokens for part in parts) / seconds,
        "samples_per_second": sum(part.num_samples for part in parts) / seconds,
        **shares,
        **({"other_share": max(0.0, 1 - sum(shares.values()))} if shares else {}),
        "memory_gib": max((part.memory for part in parts), default=0) / GIB,
    }


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
