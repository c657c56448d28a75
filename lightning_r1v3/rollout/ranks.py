"""Ranks that do something together, and fail together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import distributed

from lightning_r1v3.rollout.errors import RolloutError, ServerError

T = TypeVar("T")

_KINDS: tuple[type[Exception], ...] = (ValueError, RolloutError, ServerError)


def rank() -> int:
    """Returns this process's rank; 0 where there is one process."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Returns the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def gather(value: T) -> list[T]:
    """Returns every rank's value; all ranks must reach this."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def together(action: Callable[[], None]) -> None:
    """Runs an action on every rank; if it fails on one, all raise. All ranks must reach this.

    Raises:
        ValueError: It failed so on a rank.
        RolloutError: Likewise; what is broken stays so.
        ServerError: Likewise; another try may succeed.
    """
    failure: tuple[int, str] | None = None
    cause: Exception | None = None
    try:
        action()
    except (ValueError, RuntimeError, ServerError) as error:
        # What gloo and NCCL raise when a server is gone is a RuntimeError.
        kind = next((i for i, known in enumerate(_KINDS) if isinstance(error, known)), _KINDS.index(ServerError))
        failure, cause = (
            (kind, f"{type(error).__name__}: {error}" if kind == _KINDS.index(ServerError) else str(error)),
            error,
        )
    failures = [(number, each) for number, each in enumerate(gather(failure)) if each is not None]
    if failures:
        number, (kind, text) = min(failures, key=lambda item: item[1][0])
        raise _KINDS[kind](text if world_size() == 1 else f"rank {number}: {text}") from cause
