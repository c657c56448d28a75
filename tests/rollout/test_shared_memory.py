from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lightning_r1v3.rollout import shared_memory
from lightning_r1v3.rollout.shared_memory import SharedMemory, open_memory

pytestmark = pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="the machine has no /dev/shm")


def test_what_one_writes_the_other_reads_also_once_the_name_is_gone() -> None:
    memory = SharedMemory(1000)
    assert memory.path.stat().st_mode & 0o077 == 0
    other = open_memory(str(memory.path), 1000)
    memory.unlink()
    memory.content.copy_(torch.arange(1000) % 251)
    assert torch.equal(other, (torch.arange(1000) % 251).byte())
    assert not memory.path.exists()


def test_more_than_there_is_is_an_error_that_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path)
    with pytest.raises(OSError, match=r"No space|too large"):
        SharedMemory(2**60)
    assert list(tmp_path.iterdir()) == []
