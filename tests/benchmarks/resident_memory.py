"""Peak of this process's resident set. Imports the standard library only: the peers measure with it too."""

from __future__ import annotations

import re
from pathlib import Path


class PeakMemory:
    """The peak from `start` on."""

    def start(self) -> None:
        """Takes what is resident now as the base, and lets the kernel's peak start anew."""
        self._base = _status_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")

    def bytes_above(self) -> int:
        """Returns how far the peak is above the base."""
        return _status_bytes("VmHWM") - self._base


def _status_bytes(field: str) -> int:
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return 1024 * int(match[1])
