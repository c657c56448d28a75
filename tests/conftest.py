from __future__ import annotations

import os

import pytest
import torch

import lightning_r1v3  # noqa: F401  (before anything imports torchvision)

# Nothing may reach for the network; read by huggingface_hub at its import.
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
