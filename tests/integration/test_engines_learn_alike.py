"""GRPO through a vLLM server and through the trainer's own model: the same curves."""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from grpo_engines import compare

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(4 * 3600),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: there is no wheel for this machine"),
]


def test_grpo_learns_the_same_through_vllm_as_through_the_local_engine(cold_started: str) -> None:
    prefix = f"soak_engines_{int(time.time())}"
    options = argparse.Namespace(
        seeds=[0, 1, 2], start=Path(cold_started), prefix=prefix, max_steps=30, num_problems=600
    )
    figures = compare(options)
    assert figures["met"], figures
