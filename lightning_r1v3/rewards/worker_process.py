"""One killable child process that judges one answer at a time, as the pool sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MEMORY_BYTES = 4 * 2**30
"""Address space of a worker; an expression that needs more raises MemoryError there."""
_PACKAGE = Path(__file__).resolve().parents[1]
# The package's own __init__ imports torch, which would cost every worker two seconds and some 300 MB: an empty module
# takes its place.
_START = (
    "import sys, types; package = types.ModuleType('lightning_r1v3'); package.__path__ = [sys.argv.pop(1)]; "
    "sys.modules['lightning_r1v3'] = package; from lightning_r1v3.rewards.worker import main; main()"
)


class WorkerProcess:
    """A warm child process. It is `ready` once it has started, and `busy` from `submit` to the reply."""

    def __init__(self, start_timeout_s: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(_PACKAGE), str(MEMORY_BYTES), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is the trainer's to handle
        )
        self._received = b""
        self.ready = False
        self.job: int | None = None
        self.deadline = time.monotonic() + start_timeout_s

    @property
    def busy(self) -> bool:
        """True while a reply is awaited: of the job, or that it has started."""
        return not self.ready or self.job is not None

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def fileno(self) -> int:
        """Returns the file descriptor on which replies arrive, so that a selector can wait for it."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def submit(self, job: int, message: dict[str, Any], timeout_s: float) -> None:
        """Sends a job; its reply must arrive within `timeout_s`.

        Raises:
            BrokenPipeError: When the child is gone.
        """
        assert self._process.stdin is not None
        self.job, self.deadline = job, time.monotonic() + timeout_s
        limit_s = 2 * timeout_s + 1  # the child's own limit, for when this process cannot kill it
        remaining = memoryview((json.dumps({**message, "limit_s": limit_s}) + "\n").encode())
        while remaining:
            remaining = remaining[self._process.stdin.write(remaining) :]

    def receive(self) -> dict[str, Any] | None:
        """Returns the reply, or None when it is not complete yet. Call when `fileno` is readable.

        Raises:
            EOFError: When the child is gone.
        """
        chunk = os.read(self.fileno(), 65_536)
        if not chunk:
            raise EOFError(f"verifier process {self.pid} ended")
        self._received += chunk
        if not self._received.endswith(b"\n"):
            return None
        reply: dict[str, Any] = json.loads(self._received)
        self._received, self.job, self.ready = b"", None, True
        return reply

    def kill(self) -> None:
        """Ends the child at once and reaps it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
