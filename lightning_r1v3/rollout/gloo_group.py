"""A gloo group of the trainer and the servers' workers, beside whatever groups either has already."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from torch import Tensor
from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore  # type: ignore[attr-defined]

from lightning_r1v3.rollout.buckets import NUM_IN_FLIGHT

SENDER = 0
"""Rank of the trainer; the workers come after it."""


class GlooGroup:
    """One member's side of the group; it listens on one address of its machine and on no other."""

    def __init__(self, store: TCPStore, host: str, *, rank: int, world_size: int, timeout_s: float) -> None:
        """Meets the others; all members must reach this.

        Args:
            store: Where they find each other.
            host: This machine's address, as the others reach it.
            rank: Of this member.
            world_size: Number of members.
            timeout_s: For the meeting, and for each tensor.
        """
        group: Any = ProcessGroupGloo  # its stubs lack most of it
        options = group._Options()
        options._devices = [group.create_device(hostname=host)]
        options._timeout = timedelta(seconds=timeout_s)
        self._store = store
        self._receivers = [other for other in range(world_size) if other != SENDER]
        self._num_messages = 0
        self._group = group(PrefixStore("weights", store), rank, world_size, options)

    @classmethod
    def join(cls, host: str, port: int, *, rank: int, world_size: int, timeout_s: float) -> GlooGroup:
        """Joins the group whose store listens there."""
        store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=timeout_s))
        with socket.create_connection((host, port)) as connection:
            own_address = connection.getsockname()[0]
        return cls(store, own_address, rank=rank, world_size=world_size, timeout_s=timeout_s)

    def send(self, tensors: Iterable[Tensor]) -> None:
        """Sends tensors to all others, and returns once they may change. Each is read while `NUM_IN_FLIGHT` more come.

        They go from member to member, not by gloo's broadcast: that begins to receive one once the one before has
        arrived, and takes up to 1.3 times as long for many tensors as for a single one of the same bytes.

        Raises:
            RuntimeError: Another member has left, or does not receive.
        """
        on_their_way: deque[list[Any]] = deque()
        for tensor in tensors:
            number = self._next_number()
            on_their_way.append([self._group.send([tensor], receiver, number) for receiver in self._receivers])
            if len(on_their_way) > NUM_IN_FLIGHT:
                _wait(on_their_way.popleft())
        for sent in on_their_way:
            _wait(sent)

    def receive(self, tensors: Iterable[Tensor]) -> list[Any]:
        """Starts to receive what the sender sends, in order; returns what to `wait()` for, of each tensor."""
        return [self._group.recv([tensor], SENDER, self._next_number()) for tensor in tensors]

    def _next_number(self) -> int:
        self._num_messages += 1
        return self._num_messages

    def tell(self, message: str) -> None:
        """Lets all members know."""
        self._store.set(message, "")

    def forget(self, message: str) -> None:
        """Takes back what was told."""
        self._store.delete_key(message)

    def await_told(self, message: str) -> None:
        """Returns once a member has told it."""
        self._store.wait([message])


def _wait(works: Iterable[Any]) -> None:
    for work in works:
        work.wait()


def open_store(host: str, *, timeout_s: float) -> tuple[TCPStore, int]:
    """Returns a store that listens on a free port of one address, and the port."""
    # A store that makes its own socket listens on every address of the machine.
    with socket.create_server((host, 0)) as listener:
        port: int = listener.getsockname()[1]
        store = TCPStore(
            host,
            port,
            is_master=True,
            wait_for_workers=False,
            timeout=timedelta(seconds=timeout_s),
            master_listen_fd=listener.detach(),
        )
    return store, port
