"""vLLM's processes that wait for each other leave their processors to the trainer meanwhile."""

from __future__ import annotations

import time

POLL_S = 1e-4
"""Between two looks; a step of the tiniest model takes thirty times as long."""


def install() -> None:
    """Has vLLM's engine and workers, on CPUs, sleep between two looks at what they wait for: they look all the time.

    That they would go to sleep at once, and be woken (vLLM does so after a second), loses some calls for five seconds.
    """
    from vllm.distributed.device_communicators import shm_broadcast  # noqa: PLC0415
    from vllm.platforms import current_platform  # noqa: PLC0415

    if current_platform.is_cpu():
        shm_broadcast.sched_yield = lambda: time.sleep(POLL_S)
