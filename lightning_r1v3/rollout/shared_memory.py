"""Memory that the processes of one machine share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

_FOLDER = Path("/dev/shm")


class SharedMemory:
    """A file in memory, readable by this user alone; it lasts as long as a process has it open."""

    def __init__(self, num_bytes: int) -> None:
        """Makes it.

        Args:
            num_bytes: Its size.

        Raises:
            OSError: The machine has no such memory, or too little.
        """
        descriptor, name = tempfile.mkstemp(prefix="r1v3_weights_", dir=_FOLDER)
        self.path = Path(name)
        try:
            os.posix_fallocate(descriptor, 0, num_bytes)  # a write beyond what there is would end the process
            self.content = open_memory(name, num_bytes)
        except OSError:
            self.unlink()
            raise
        finally:
            os.close(descriptor)

    def unlink(self) -> None:
        """Takes its name away: nobody else opens it, and nothing of it stays behind."""
        self.path.unlink(missing_ok=True)


def open_memory(path: str, num_bytes: int) -> Tensor:
    """Returns the first bytes of shared memory, uint8 `[num_bytes]`."""
    return torch.from_file(path, shared=True, size=num_bytes, dtype=torch.uint8)
