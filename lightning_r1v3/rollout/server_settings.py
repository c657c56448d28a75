"""The rollout servers as they stand in a YAML."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from typing import Any

from lightning_r1v3.rollout.token_guard import TOKEN_VARIABLE


@dataclass(frozen=True)
class ServerSettings:
    """Which servers there are, and how those that we start are started."""

    count: int = 1
    """Servers to start; they share the prompts."""
    urls: tuple[str, ...] = ()
    """Servers that run already (`python -m lightning_r1v3.rollout.server`), instead of starting any."""
    host: str = "127.0.0.1"
    """Address on which those that we start listen."""
    tensor_parallel_size: int = 1
    """GPUs of each server."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further options of `vllm serve`, e.g. `max_model_len: 8192` for `--max-model-len 8192`."""
    environment: dict[str, str] = field(default_factory=dict)
    """Further environment variables of those that we start, e.g. `CUDA_VISIBLE_DEVICES`."""

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: There would be no server, or servers given by URL without their token.
        """
        if self.count < 1 or self.tensor_parallel_size < 1:
            raise ValueError(
                f"expected servers.count and tensor_parallel_size >= 1, got {self.count}, {self.tensor_parallel_size}"
            )
        if self.urls and not os.environ.get(TOKEN_VARIABLE):
            raise ValueError(f"servers.urls needs their token in the variable {TOKEN_VARIABLE}; the server prints it")

    def token(self) -> str:
        """Returns the token of the environment, or a new one."""
        return os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(32)

    def arguments(self, model: str, *, dtype: str, transfer: str) -> list[str]:
        """Returns the arguments of a server that we start; its weights arrive with the first sync.

        Args:
            model: Folder with config and processor.
            dtype: Of the weights.
            transfer: Backend of the weight transfer.
        """
        options = {
            "model": model,
            "dtype": dtype,
            "load_format": "dummy",
            "tensor_parallel_size": self.tensor_parallel_size,
            "limit_mm_per_prompt": {"video": 0},
            **({"enable_sleep_mode": True} if transfer == "ipc" else {}),
            **self.options,
        }
        arguments = ["--host", self.host, "--transfer", transfer]
        return arguments + [text for name, value in options.items() for text in _option(name, value)]


@dataclass(frozen=True)
class Patience:
    """How long servers are waited for, and how often they may fail."""

    start_s: float = 900.0
    """For a server to start."""
    request_s: float = 1800.0
    """For one prompt's completions, the wait behind others included."""
    sync_s: float = 600.0
    """For one step of a sync."""
    probe_s: float = 60.0
    """For a sign of life: of a server that failed, and every so often of all that draw completions."""
    max_failures: int = 3
    """Failures in one sync or generation that are mended; one more ends the run."""

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: One is not above 0.
        """
        if min(self.start_s, self.request_s, self.sync_s, self.probe_s) <= 0 or self.max_failures < 0:
            raise ValueError(f"patience: expected seconds above 0 and max_failures >= 0, got {self}")


def _option(name: str, value: Any) -> list[str]:
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    return [f"--{dashed}", json.dumps(value) if isinstance(value, dict | list) else str(value)]
