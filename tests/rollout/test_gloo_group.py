from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from lightning_r1v3.rollout.buckets import NUM_IN_FLIGHT
from lightning_r1v3.rollout.gloo_group import GlooGroup, open_store

HOST = "127.0.0.1"
NUM_RECEIVERS = 2
TIMEOUT_S = 60.0
SIZES = [3, 2**20, 1, 2**18, 0, 7] * 3


@pytest.fixture
def members() -> Iterator[list[GlooGroup]]:
    """The sender first."""
    store, port = open_store(HOST, timeout_s=TIMEOUT_S)
    size = 1 + NUM_RECEIVERS

    def join(rank: int) -> GlooGroup:
        if rank == 0:
            return GlooGroup(store, HOST, rank=0, world_size=size, timeout_s=TIMEOUT_S)
        return GlooGroup.join(HOST, port, rank=rank, world_size=size, timeout_s=TIMEOUT_S)

    with ThreadPoolExecutor(size) as threads:
        groups = list(threads.map(join, range(size)))
    yield groups
    groups.clear()


def reused_memories() -> Iterator[Tensor]:
    """Tensors of the sizes above, each filled with its number; memory is used again as soon as it may be."""
    memories = [torch.empty(max(SIZES)) for _ in range(NUM_IN_FLIGHT + 1)]
    for number, size in enumerate(SIZES):
        yield memories[number % len(memories)][:size].fill_(number)


def test_everybody_gets_all_tensors_in_order(members: list[GlooGroup]) -> None:
    sender, *receivers = members
    for _ in range(2):
        arrived = [[torch.full((size,), -1.0) for size in SIZES] for _ in receivers]
        with ThreadPoolExecutor(1) as thread:
            sending = thread.submit(sender.send, reused_memories())
            for part in (slice(0, 4), slice(4, None)):  # received in two goes, sent in one
                pairs = list(zip(receivers, arrived, strict=True))
                for work in [work for receiver, tensors in pairs for work in receiver.receive(tensors[part])]:
                    work.wait()
            sending.result()
        for tensors in arrived:
            assert all(bool((tensor == number).all()) for number, tensor in enumerate(tensors))


def test_a_receiver_that_leaves_is_an_error_at_the_sender(members: list[GlooGroup]) -> None:
    sender, patient, _ = members
    patient.receive([torch.empty(size) for size in SIZES])
    del members[2], _
    start = time.monotonic()
    with pytest.raises(RuntimeError):
        sender.send(reused_memories())
    assert time.monotonic() - start < TIMEOUT_S / 2
