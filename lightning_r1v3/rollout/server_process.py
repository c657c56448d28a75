"""A rollout server that this process starts, and that never outlives it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning_r1v3.rollout.errors import RolloutError
from lightning_r1v3.rollout.token_guard import TOKEN_VARIABLE
from lightning_r1v3.torchvision_repair import child_environment

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.2
_LOG_TAIL_CHARACTERS = 2000
_NUM_ERRORS = 5
# The cause comes first; the end of the log only says which process missed which.
_ERROR = re.compile(r"\b\w+(Error|Exception)\b: ")


class ServerProcess:
    """A server in a process group of its own; its standard input is held open, and it ends when that is closed."""

    def __init__(self, options: Sequence[str], *, token: str, environment: Mapping[str, str]) -> None:
        """Starts it; `wait_for_address` waits until it listens.

        Args:
            options: Of `python -m lightning_r1v3.rollout.server`.
            token: What calls must carry.
            environment: Variables besides this process's own.
        """
        self.folder = tempfile.TemporaryDirectory(prefix="r1v3_rollout_")
        self._ready = Path(self.folder.name) / "address"
        self.log = Path(self.folder.name) / "server.log"
        own = ["--port", "0", "--ready-file", str(self._ready), "--end-with-stdin"]
        variables = os.environ | child_environment() | dict(environment) | {TOKEN_VARIABLE: token}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lightning_r1v3.rollout.server", *own, *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=variables,
                start_new_session=True,  # Ctrl-C is the trainer's to handle, and the group can be killed whole
            )

    @property
    def running(self) -> bool:
        """False once the process has ended."""
        return self.process.poll() is None

    def wait_for_address(self, deadline: float) -> str:
        """Returns the address once the server listens; it answers calls only later.

        Raises:
            RolloutError: It ended, or `deadline` (monotonic) passed.
        """
        while not self._ready.exists():
            self.check(deadline)
            time.sleep(_POLL_S)
        return self._ready.read_text()

    def check(self, deadline: float) -> None:
        """Returns while there is hope.

        Raises:
            RolloutError: The server ended, or `deadline` (monotonic) passed; with the end of its log.
        """
        if not self.running:
            raise RolloutError(f"the rollout server ended with code {self.process.returncode}:\n{self.log_tail()}")
        if time.monotonic() > deadline:
            raise RolloutError(f"the rollout server did not start in time (patience.start_s):\n{self.log_tail()}")

    def log_tail(self) -> str:
        """Returns the first errors in what the server wrote, and its end."""
        text = self.log.read_text(errors="replace")
        first = [line for line in text.splitlines() if _ERROR.search(line)][:_NUM_ERRORS]
        return "\n".join([*first, "…", text[-_LOG_TAIL_CHARACTERS:]])

    def kill(self) -> None:
        """Ends the server and its children at once, and waits for it."""
        with contextlib.suppress(ProcessLookupError):  # all of them ended already
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.folder.cleanup()


def end_with_parent() -> None:
    """Has the kernel end this process when the one that started it ends, however it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
