from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType

from lightning_r1v3.rewards import VerifierPool

COUNT = 200


def test_none_hangs_and_none_raises(pool: VerifierPool, benchmark_module: Callable[[str], ModuleType]) -> None:
    requests = benchmark_module("hostile_completions").hostile_requests(COUNT, seed=1)
    started = time.monotonic()
    verdicts = pool.score(requests)
    assert len(verdicts) == COUNT
    timeouts = sum(verdict.status == "timeout" for verdict in verdicts)
    assert timeouts <= COUNT // 50
    assert all(verdict.status != "error" for verdict in verdicts)
    assert time.monotonic() - started < 60


def test_generator_is_a_function_of_its_seed(benchmark_module: Callable[[str], ModuleType]) -> None:
    generate = benchmark_module("hostile_completions").hostile_requests
    assert generate(20, seed=3) == generate(20, seed=3)
    assert generate(20, seed=3) != generate(20, seed=4)
