from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from lightning_r1v3.rewards import VerifierPool

sys.path.insert(0, str(Path(__file__).parent))  # judge_server, under importlib's import mode

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def benchmark_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script of tests/benchmarks by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture(scope="session")
def pool() -> Iterator[VerifierPool]:
    """Warm workers for all tests that do not care about their own."""
    with VerifierPool(num_workers=2, timeout_s=1.0) as pool:
        yield pool
