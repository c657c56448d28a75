"""Requests shared among servers: each answered once, whatever becomes of the servers meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from lightning_r1v3.rollout.errors import ServerError
from lightning_r1v3.rollout.server_client import ServerClient
from lightning_r1v3.rollout.server_settings import Patience
from lightning_r1v3.rollout.watch import watched

Reply = TypeVar("Reply")

MAX_REQUESTS = 256
"""Requests under way at the same time; each takes a thread here, and many give the servers large batches."""


def send_all(
    clients: Sequence[ServerClient],
    requests: Mapping[int, dict[str, Any]],
    read: Callable[[int, dict[str, Any]], Reply],
    *,
    patience: Patience,
) -> tuple[dict[int, Reply], dict[str, ServerError]]:
    """Sends requests to servers in turns.

    Args:
        clients: At least one.
        requests: By number.
        read: Makes a result of a request's number and its answer.
        patience: With each answer, and between signs of life.

    Returns:
        The results by number, those missing whose server failed; and each failed server's first error by its address.

    Raises:
        ValueError: A request can never be answered.
    """
    errors: dict[str, ServerError] = {}
    replies: dict[int, Reply] = {}

    def ask(number: int, client: ServerClient) -> None:
        if client.url in errors:
            return  # the server failed: what waits is not sent into the void
        try:
            replies[number] = read(number, client.generate(requests[number], timeout_s=patience.request_s))
        except ServerError as error:
            errors.setdefault(client.url, error)

    with watched(clients, probe_s=patience.probe_s), ThreadPoolExecutor(min(MAX_REQUESTS, len(requests))) as threads:
        pending = [threads.submit(ask, number, clients[place % len(clients)]) for place, number in enumerate(requests)]
    for each in pending:
        each.result()
    return replies, errors
