"""Syncs of servers with the backbone: checked once, whole at first, then what trains."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.rollout import ranks
from lightning_r1v3.rollout.server_client import ServerClient

if TYPE_CHECKING:
    from lightning_r1v3.rollout.weight_transfer import Transfer, WeightTransfer


class WeightBroadcast:
    """The way of the weights to one set of servers; opened by the first `run`, and anew after `drop`."""

    def __init__(self, backend: Transfer, *, sends: bool, timeout_s: float, share_memory: bool) -> None:
        """Stores the settings.

        Args:
            backend: How weights travel.
            sends: This process talks to the servers; the others only gather shards along.
            timeout_s: For one exchange.
            share_memory: All servers are on this machine.
        """
        self._share_memory = share_memory
        self._backend = backend
        self._sends = sends
        self._timeout_s = timeout_s
        self._transfer: WeightTransfer | None = None
        self._backbone: Backbone | None = None
        self._whole_model_sent = False
        self._last_version = ""
        self._taken_over: Future[None] | None = None

    def run(self, backbone: Backbone, clients: Sequence[ServerClient], *, weight_version: str) -> int:
        """Sends the weights, and returns once they may change; all ranks must reach this.

        `wait` tells when the servers have them, and have forgotten what the old ones computed.

        Args:
            backbone: The policy.
            clients: The servers.
            weight_version: Name of the weights.

        Returns:
            The bytes sent.

        Raises:
            ValueError: The servers' model has other weights.
            ServerError: A server failed on the way.
        """
        ranks.together(lambda: self._drop_if_stale(clients))
        if any(ranks.gather(self._transfer is None or self._backbone is not backbone)):
            self.drop()
            self._backbone = backbone
            ranks.together(lambda: self._open(backbone, clients))
        sent: list[int] = []
        ranks.together(lambda: sent.append(self._send(weight_version)))
        self._whole_model_sent, self._last_version = True, weight_version
        return sent[0]

    def wait(self) -> None:
        """Returns once the servers answer with the weights that were sent.

        Raises:
            ServerError: One does not.
        """
        if self._taken_over is not None:
            self._taken_over.result()

    def drop(self) -> None:
        """Closes the way: a server was lost, and the next one has none of the weights."""
        if self._transfer is not None:
            self._transfer.close()
        self._transfer, self._whole_model_sent, self._taken_over = None, False, None

    def _drop_if_stale(self, clients: Sequence[ServerClient]) -> None:
        """Closes the way where a server was started anew, or has had another trainer: it would not meet us there."""
        if self._transfer is None or not self._sends:
            return
        if any(client.weight_version() != self._last_version for client in clients):
            self.drop()

    def _open(self, backbone: Backbone, clients: Sequence[ServerClient]) -> None:
        from lightning_r1v3.rollout.weight_source import BackboneSource  # noqa: PLC0415  (vLLM's import takes seconds)
        from lightning_r1v3.rollout.weight_transfer import WeightTransfer  # noqa: PLC0415

        source = BackboneSource(backbone, trainable_only=False)
        for client in clients if self._sends else ():
            if difference := client.first_weight_difference(source.specs()):
                raise ValueError(f"the rollout server {client.url} serves another model: {difference}")
        rank = 0 if self._sends else ranks.rank()
        self._transfer = WeightTransfer(
            self._backend,
            clients,
            source,
            rank=rank,
            timeout_s=self._timeout_s,
            share_memory=self._share_memory,
        )

    def _send(self, weight_version: str) -> int:
        assert self._transfer is not None
        try:
            num_bytes = self._transfer.send(trainable_only=self._whole_model_sent, weight_version=weight_version)
        finally:
            self._transfer.source.finish_pass()
        thread = ThreadPoolExecutor(1)
        self._taken_over = thread.submit(self._transfer.finish)
        thread.shutdown(wait=False)
        return num_bytes
