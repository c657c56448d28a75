"""The way of the weights to all servers at once, by vLLM's weight-transfer API."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

from vllm.distributed.weight_transfer import TrainerWeightTransferEngine, WeightTransferTrainerFactory

from lightning_r1v3.rollout.gloo_trainer import GlooTrainerEngine, GlooTrainerInitInfo, register_backend
from lightning_r1v3.rollout.server_client import ServerClient
from lightning_r1v3.rollout.weight_source import BackboneSource

Transfer = Literal["gloo", "nccl", "ipc"]


class Servers:
    """Several servers as the one that a trainer engine of vLLM talks to (its `VLLMWeightSyncClient`)."""

    def __init__(self, clients: Sequence[ServerClient]) -> None:
        """Asks each for its number of workers."""
        self.clients = clients
        self.num_workers = [client.world_size() for client in clients]
        self.weight_version = ""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Opens the way; each server's workers have the ranks after those of the server before."""
        offset = init_info.get("rank_offset", 0)
        infos = []
        for num_workers in self.num_workers:
            infos.append(init_info | ({"rank_offset": offset} if "rank_offset" in init_info else {}))
            offset += num_workers
        pairs = zip(self.clients, infos, strict=True)
        each([partial(client.init_weight_transfer_engine, info) for client, info in pairs])

    def start_weight_update(self) -> None:
        """Ends what the servers are at, holds up what comes, and begins an update."""
        each([client.pause for client in self.clients])
        each([client.start_weight_update for client in self.clients])

    def update_weights(self, update_info: Any) -> None:
        """Has all servers receive."""
        each([partial(client.update_weights, update_info) for client in self.clients])

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Ends the update; the weights get the name set in `weight_version`. The servers answer with them then."""
        name = weight_version or self.weight_version
        finish = [partial(client.finish_weight_update, name) for client in self.clients]
        each([*finish, *(client.reset_caches for client in self.clients)])
        each([client.resume for client in self.clients])


class WeightTransfer:
    """One opened way; after a failure it is closed, and another one is opened."""

    def __init__(
        self,
        backend: Transfer,
        clients: Sequence[ServerClient],
        source: BackboneSource,
        *,
        rank: int,
        timeout_s: float,
        share_memory: bool,
    ) -> None:
        """Opens the way, together with the servers. All ranks that gather the source must reach this.

        Args:
            backend: `gloo` (CPUs), `nccl` (other GPUs) or `ipc` (the same GPU).
            clients: The servers; read on rank 0 only.
            source: The weights.
            rank: 0 sends.
            timeout_s: For one exchange.
            share_memory: All servers are on this machine.
        """
        register_backend()
        self.source = source
        self._servers = Servers(clients if rank == 0 else [])
        world_size = 1 + sum(self._servers.num_workers)
        host = _address_towards(clients[0].host) if rank == 0 else ""
        info = _init_info(backend, host, world_size, rank=rank, timeout_s=timeout_s, share_memory=share_memory)
        self._engine: TrainerWeightTransferEngine[Any] = WeightTransferTrainerFactory.trainer_init(
            info, client=self._servers, source=source
        )

    def send(self, *, trainable_only: bool, weight_version: str) -> int:
        """Sends the weights and returns their bytes, once they may change; all ranks must reach this.

        Args:
            trainable_only: Leave out what is frozen.
            weight_version: The weights' name from now on.
        """
        self.source.trainable_only = trainable_only
        self._servers.weight_version = weight_version
        self._engine.send_weights()
        return self.source.num_bytes

    def finish(self) -> None:
        """Waits until the servers have loaded what was sent."""
        if isinstance(self._engine, GlooTrainerEngine):  # vLLM's own engines have waited already
            self._engine.finish()

    def close(self) -> None:
        """Closes the way on this side."""
        self._engine.shutdown()


def each(calls: Sequence[Callable[[], None]]) -> None:
    """Runs calls at the same time; raises the first error once all have ended."""
    if not calls:
        return
    with ThreadPoolExecutor(len(calls)) as threads:
        pending = [threads.submit(call) for call in calls]
    for call in pending:
        call.result()


def _init_info(
    backend: Transfer, host: str, world_size: int, *, rank: int, timeout_s: float, share_memory: bool
) -> Any:
    if backend == "gloo":
        return GlooTrainerInitInfo(
            host=host, world_size=world_size, timeout_s=timeout_s, share_memory=share_memory, rank=rank
        )
    if backend == "nccl":
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo  # noqa: PLC0415

        return NCCLTrainerInitInfo(master_address=host, master_port=_free_port(), world_size=world_size, rank=rank)
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo  # noqa: PLC0415

    return IPCTrainerInitInfo(rank=rank, packed=True)


def _address_towards(host: str) -> str:
    """This machine's address on the way to another; nothing is sent."""
    family, kind, _, _, address = socket.getaddrinfo(host, 1, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)
        own: str = probe.getsockname()[0]
    return own


def _free_port() -> int:
    with socket.create_server(("", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
