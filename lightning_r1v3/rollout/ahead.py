"""Completions drawn in the background, for a call that is still to come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from lightning_r1v3.types import Example, RolloutBatch, Sampling

log = logging.getLogger(__name__)


class Ahead:
    """At most one draw at a time."""

    def __init__(self) -> None:
        """Starts with none."""
        self._thread: ThreadPoolExecutor | None = None
        self._drawn: tuple[object, Future[RolloutBatch]] | None = None

    def start(
        self, draw: Callable[[], RolloutBatch], prompts: Sequence[Example], sampling: Sampling, *, step: int
    ) -> None:
        """Starts a draw once the one before has ended.

        Args:
            draw: Draws.
            prompts: For which; with the other two they tell what a later `take` is after.
            sampling: How.
            step: For which step.
        """
        self.wait()
        self._thread = self._thread or ThreadPoolExecutor(1)
        self._drawn = _key(prompts, sampling, step), self._thread.submit(draw)

    def take(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> RolloutBatch | None:
        """Returns what was drawn, once it is; None where it failed, or something else was drawn."""
        if self._drawn is None or self._drawn[0] != _key(prompts, sampling, step):
            return None
        (_, drawn), self._drawn = self._drawn, None
        if error := drawn.exception():
            log.warning("completions drawn ahead are lost, and drawn now: %s", error)
            return None
        return drawn.result()

    def wait(self) -> None:
        """Returns once nothing is being drawn."""
        if self._drawn is not None:
            self._drawn[1].exception()

    @property
    def running(self) -> bool:
        """Whether something is being drawn."""
        return self._drawn is not None and not self._drawn[1].done()

    def close(self) -> None:
        """Waits, and forgets what was drawn."""
        if self._thread is not None:
            self._thread.shutdown()
        self._thread = self._drawn = None


def _key(prompts: Sequence[Example], sampling: Sampling, step: int) -> object:
    return [(prompt.sample.source, prompt.sample.id) for prompt in prompts], sampling, step
