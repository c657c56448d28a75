"""vLLM's own waiting, in this process."""

from __future__ import annotations

import time

import pytest
from served_policy import NEEDS_VLLM

from lightning_r1v3.rollout import idle_waits

pytestmark = NEEDS_VLLM


def test_a_process_that_waits_sleeps_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.distributed.device_communicators import shm_broadcast  # noqa: PLC0415
    from vllm.platforms import current_platform  # noqa: PLC0415

    if not current_platform.is_cpu():
        pytest.skip("this vLLM runs on GPUs, where it waits as it likes")
    slept: list[float] = []
    monkeypatch.setattr(shm_broadcast, "sched_yield", shm_broadcast.sched_yield)  # put back afterwards
    monkeypatch.setattr(time, "sleep", slept.append)
    idle_waits.install()
    condition = object.__new__(shm_broadcast.SpinCondition)  # without the sockets that it never comes to use here
    condition.is_reader, condition.last_read, condition.busy_loop_s = True, time.monotonic(), 1000.0
    for _ in range(2):
        condition.wait()
    assert slept == [idle_waits.POLL_S] * 2
