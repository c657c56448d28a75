"""The child process of `worker_pool`: reads one job a line, answers one verdict a line, never outlives its parent.

Started by `worker_process` with the arguments MEMORY_BYTES PARENT_PID. It imports no torch.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
from typing import TextIO

from lightning_r1v3.rewards.rule import rule_verdict

MAX_REPLY = 1_000
"""Characters of the final answer that go back to the parent."""
_PARENT_POLL_S = 1.0


def main() -> None:
    """Serves jobs until the parent closes the pipe or dies."""
    memory_bytes, parent_pid = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_exit_with, args=(parent_pid,), daemon=True).start()
    replies = _private_stdout()
    _send(replies, {"ready": True})
    for line in sys.stdin:
        job = json.loads(line)
        # The default action of SIGALRM ends the process even inside C code: a hung worker whose parent is gone, or
        # too busy to kill it, ends by itself.
        signal.setitimer(signal.ITIMER_REAL, job["limit_s"])
        reply = _judge(job)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(replies, reply)


def _judge(job: dict[str, object]) -> dict[str, object]:
    try:
        verdict = rule_verdict(job["part"], job["answer"], job["choices"])  # type: ignore[arg-type]
    except Exception as error:  # whatever a completion provokes is a status
        return {"status": "error", "detail": f"{type(error).__name__}: {error}"[:MAX_REPLY]}
    answer = verdict.final_answer
    return {"status": "ok", "correct": verdict.correct, "final_answer": answer and answer[:MAX_REPLY]}


def _private_stdout() -> TextIO:
    """Returns the reply pipe, and points file descriptor 1 at stderr: a stray print must not break the protocol."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _send(replies: TextIO, message: dict[str, object]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


def _exit_with(parent_pid: int) -> None:
    # The end of the pipe is not enough: a process forked from the parent may still hold its other end.
    while os.getppid() == parent_pid:
        time.sleep(_PARENT_POLL_S)
    os._exit(0)
