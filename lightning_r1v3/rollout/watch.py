"""Servers that hang are found out while they should answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lightning_r1v3.rollout.errors import ServerError
from lightning_r1v3.rollout.server_client import ServerClient

log = logging.getLogger(__name__)


@contextmanager
def watched(clients: Sequence[ServerClient], *, probe_s: float) -> Iterator[None]:
    """Asks servers for a sign of life while the body runs, and breaks off the calls to one that gives none.

    Args:
        clients: The servers.
        probe_s: Between two questions, and for an answer; a server that works at something answers meanwhile.
    """
    ended = threading.Event()

    def watch(client: ServerClient) -> None:
        while not ended.wait(probe_s):
            try:
                client.weight_version(timeout_s=probe_s)
            except ServerError as error:
                if not ended.is_set():
                    log.warning("the rollout server gives no sign of life: %s", error)
                    client.break_off()

    for client in clients:
        threading.Thread(target=watch, args=(client,), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
