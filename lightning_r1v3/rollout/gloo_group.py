"""A gloo group of the trainer and the servers' workers, beside whatever groups either has already."""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any

from torch import Tensor
from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore  # type: ignore[attr-defined]

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
            timeout_s: For the meeting, and for each broadcast.
        """
        group: Any = ProcessGroupGloo  # its stubs lack most of it
        options = group._Options()
        options._devices = [group.create_device(hostname=host)]
        options._timeout = timedelta(seconds=timeout_s)
        options._threads = 1  # broadcasts of several threads would only get in each other's way
        self._store = store
        self._group = group(PrefixStore("weights", store), rank, world_size, options)

    @classmethod
    def join(cls, host: str, port: int, *, rank: int, world_size: int, timeout_s: float) -> GlooGroup:
        """Joins the group whose store listens there."""
        store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=timeout_s))
        with socket.create_connection((host, port)) as connection:
            own_address = connection.getsockname()[0]
        return cls(store, own_address, rank=rank, world_size=world_size, timeout_s=timeout_s)

    def broadcast(self, tensor: Tensor) -> Any:
        """Starts to send the sender's tensor to everybody's; returns what to `wait()` for."""
        return self._group.broadcast(tensor, SENDER)

    def tell(self, message: str) -> None:
        """Lets all members know."""
        self._store.set(message, "")

    def forget(self, message: str) -> None:
        """Takes back what was told."""
        self._store.delete_key(message)

    def await_told(self, message: str) -> None:
        """Returns once a member has told it."""
        self._store.wait([message])


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
