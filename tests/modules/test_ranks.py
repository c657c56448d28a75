from __future__ import annotations

import subprocess
import sys

LEAVE = """
from pathlib import Path
import torch
from torch import distributed
from lightning_r1v3.modules.ranks import leave_process_group

leave_process_group()
distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
distributed.all_reduce(torch.ones(1))
names = lambda: {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
assert "pt_gloo_runloop" in names(), names()
leave_process_group()
assert not distributed.is_initialized()
assert "pt_gloo_runloop" not in names(), names()
"""


def test_leaving_the_process_group_ends_its_threads() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
