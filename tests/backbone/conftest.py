from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

from lightning_r1v3.backbone.sharding import Sharding

sys.path.insert(0, str(Path(__file__).parent))

from tiny import any_family, internvl, tiny_of  # noqa: F401 (fixtures)


@pytest.fixture
def sharding() -> Iterator[Sharding]:
    """Over one process."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield Sharding(init_device_mesh("cpu", (1,)), torch.device("cpu"))
    distributed.destroy_process_group()
