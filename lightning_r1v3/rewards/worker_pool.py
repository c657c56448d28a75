"""Verification in killable child processes with a hard timeout: no completion can hang or crash the trainer."""

from __future__ import annotations

import logging
import os
import selectors
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from lightning_r1v3.rewards.tags import answer_part
from lightning_r1v3.rewards.worker_process import WorkerProcess

logger = logging.getLogger(__name__)

RuleStatus = Literal["ok", "timeout", "error"]


class VerificationRequest(NamedTuple):
    """One completion and the answer it should give; a plain tuple in this order will do."""

    completion: str
    """Text generated after the prompt, of any length."""
    answer: str
    """Gold answer; with `choices`, a letter or a text."""
    choices: Sequence[str] | None = None
    """Texts of the choices in order, or None."""
    think_opened: bool = False
    """True when the prompt ends in `<think>`."""


@dataclass(frozen=True)
class Verdict:
    """What verification came to."""

    correct: bool
    """True when the rule accepts; never for a timeout or an error."""
    status: RuleStatus = "ok"
    """`ok`, `timeout` (killed at the limit), or `error` (the child raised or died)."""
    final_answer: str | None = None
    """The final answer as stated, or None when there is none or the status is not `ok`."""


class VerifierPool:
    """Warm worker processes that apply `rule.rule_verdict`; one that exceeds its time is killed and replaced.

    Workers start on the first call of `score` and end with `close`, with this process, or at their own limit.

    Args:
        num_workers: Processes, at least 1.
        timeout_s: Seconds for one completion. The usual one takes a millisecond.
        start_timeout_s: Seconds for a worker to start.

    Raises:
        ValueError: When an argument is not positive.
    """

    def __init__(self, *, num_workers: int = 2, timeout_s: float = 2.0, start_timeout_s: float = 60.0) -> None:
        self._workers: list[WorkerProcess] = []
        self._owner_pid = os.getpid()
        for name, value in (
            ("num_workers", num_workers),
            ("timeout_s", timeout_s),
            ("start_timeout_s", start_timeout_s),
        ):
            if value <= 0:
                raise ValueError(f"expected {name} to be positive, got {value}; use e.g. 2")
        self.num_workers, self.timeout_s, self.start_timeout_s = num_workers, timeout_s, start_timeout_s

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that run now."""
        return [worker.pid for worker in self._workers]

    def score(self, requests: Sequence[VerificationRequest | tuple[Any, ...]]) -> list[Verdict]:
        """Returns one verdict per request, in order.

        Raises:
            RuntimeError: When a worker cannot start.
        """
        verdicts: list[Verdict | None] = [None] * len(requests)
        pending: deque[tuple[int, dict[str, Any]]] = deque()
        for index, request in enumerate(VerificationRequest(*request) for request in requests):
            part = answer_part(request.completion, think_opened=request.think_opened)
            if part:
                choices = None if request.choices is None else list(request.choices)
                pending.append((index, {"part": part, "answer": request.answer, "choices": choices}))
            else:
                verdicts[index] = Verdict(correct=False)
        while pending or any(worker.job is not None for worker in self._workers):
            self._assign(pending, verdicts)
            self._collect(verdicts)
        return [verdict for verdict in verdicts if verdict is not None]

    def close(self) -> None:
        """Ends all workers; the next `score` starts new ones."""
        if os.getpid() == self._owner_pid:  # a forked copy must not end its parent's workers
            for worker in self._workers:
                worker.kill()
        self._workers.clear()

    def __enter__(self) -> Self:
        """Returns the pool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the pool."""
        self.close()

    def __del__(self) -> None:
        """Closes the pool."""
        self.close()

    def _assign(self, pending: deque[tuple[int, dict[str, Any]]], verdicts: list[Verdict | None]) -> None:
        while len(self._workers) < min(self.num_workers, len(pending)):
            self._workers.append(WorkerProcess(self.start_timeout_s))
        for worker in [worker for worker in self._workers if not worker.busy]:
            if pending:
                index, message = pending.popleft()
                try:
                    worker.submit(index, message, self.timeout_s)
                except BrokenPipeError:
                    self._lose(worker, "error", verdicts)

    def _collect(self, verdicts: list[Verdict | None]) -> None:
        """Waits for a reply or a deadline, and books what came."""
        busy = [worker for worker in self._workers if worker.busy]
        if not busy:
            return
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker, selectors.EVENT_READ)
            wait_s = min(worker.deadline for worker in busy) - time.monotonic()
            replied = [key.fileobj for key, _ in selector.select(max(wait_s, 0))]
        for worker in busy:
            if worker in replied:
                self._book(worker, verdicts)
            elif time.monotonic() >= worker.deadline:
                self._lose(worker, "timeout", verdicts)

    def _book(self, worker: WorkerProcess, verdicts: list[Verdict | None]) -> None:
        index = worker.job
        try:
            reply = worker.receive()
        except EOFError:
            self._lose(worker, "error", verdicts)
            return
        if reply is None or index is None:  # incomplete, or the word that it has started
            return
        if reply["status"] == "error":
            logger.warning("verification failed and counts as wrong: %s", reply["detail"])
            verdicts[index] = Verdict(correct=False, status="error")
        else:
            verdicts[index] = Verdict(reply["correct"], "ok", reply["final_answer"])

    def _lose(self, worker: WorkerProcess, status: RuleStatus, verdicts: list[Verdict | None]) -> None:
        worker.kill()
        self._workers.remove(worker)
        if not worker.ready:
            raise RuntimeError(
                f"expected a verifier process to start within {self.start_timeout_s} s, got {status}; "
                "its message is on standard error above"
            )
        self._workers.append(WorkerProcess(self.start_timeout_s))  # it warms up while the others work
        if worker.job is not None:
            verdicts[worker.job] = Verdict(correct=False, status=status)
