"""Weight transfer over gloo, the worker's side: for servers on CPUs, a backend of vLLM's weight-transfer API.

Servers that the trainer started are on its machine, and read the weights from memory that it shares with them instead.
vLLM loads `register` in each of its processes, through the entry point `vllm.general_plugins`.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from vllm.distributed.weight_transfer import WeightTransferEngine
from vllm.distributed.weight_transfer.base import WeightTransferInitInfo, WeightTransferUpdateInfo

from lightning_r1v3.rollout import idle_waits
from lightning_r1v3.rollout.buckets import Bucket, TensorSpec, memory_of_each, plan_buckets, shares
from lightning_r1v3.rollout.destinations import Destinations
from lightning_r1v3.rollout.gloo_group import GlooGroup
from lightning_r1v3.rollout.late_packing import LatePacking, is_loadable_in_place, loaded_in_place
from lightning_r1v3.rollout.shared_memory import open_memory

SHARED_BUCKET_BYTES = 16 * 2**20
"""Of shared memory: what the servers load while the trainer fills the next one."""
MAX_BYTES_KEPT = 2**30
"""What a worker keeps beside its weights before it loads it, unless a single tensor is larger."""

_LATE_PACKING = LatePacking()


@dataclass
class GlooInitInfo(WeightTransferInitInfo):
    """What a worker needs to join the group."""

    master_address: str
    """Where the trainer's store listens."""
    master_port: int
    """Its port."""
    rank_offset: int
    """Rank of the server's first worker."""
    world_size: int
    """Trainer and workers together."""
    timeout_s: float
    """For one exchange."""


@dataclass
class GlooUpdateInfo(WeightTransferUpdateInfo):
    """The tensors of one update, in order."""

    names: list[str]
    """In the checkpoint's format."""
    dtype_names: list[str]
    """Of each."""
    shapes: list[list[int]]
    """Of each, whole."""
    path: str = ""
    """Of the shared memory that takes them; empty where they are sent."""
    number: int = 0
    """Counts the trainer's updates."""

    @property
    def specs(self) -> list[TensorSpec]:
        """The tensors."""
        columns = zip(self.names, self.dtype_names, self.shapes, strict=True)
        return [TensorSpec(name, getattr(torch, dtype), tuple(shape)) for name, dtype, shape in columns]


class GlooTransferEngine(WeightTransferEngine[GlooInitInfo, GlooUpdateInfo]):
    """The worker's side: receives buckets and loads what is in them as from a checkpoint."""

    init_info_cls = GlooInitInfo
    update_info_cls = GlooUpdateInfo
    _group: GlooGroup | None = None
    _memory: Tensor | None = None
    _path = ""
    _destinations: Destinations

    def init_transfer_engine(self, init_info: GlooInitInfo) -> None:
        """Joins the trainer's group; an earlier one is left."""
        self.shutdown()
        self._destinations = Destinations(self.model)
        parallel = self.parallel_config
        rank = init_info.rank_offset + parallel.data_parallel_index * parallel.world_size + parallel.rank
        self._group = GlooGroup.join(
            init_info.master_address,
            init_info.master_port,
            rank=rank,
            world_size=init_info.world_size,
            timeout_s=init_info.timeout_s,
        )

    def start_weight_update(self) -> None:
        """Makes the layers ready to be loaded anew."""
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload  # noqa: PLC0415

        if not is_loadable_in_place(self.model):
            initialize_layerwise_reload(self.model)

    def finish_weight_update(self) -> None:
        """Finishes layers of which not all was sent; those of which nothing was sent keep their weights."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload  # noqa: PLC0415

        if is_loadable_in_place(self.model):
            _LATE_PACKING.pack(self.model)
        else:
            finalize_layerwise_reload(self.model, self.model_config)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receives one update; the base class would wait for an accelerator besides."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: GlooUpdateInfo) -> None:
        """Loads what was sent."""
        arrivals = self._shared(update_info) if update_info.path else self._received(plan_buckets(update_info.specs))
        try:
            if is_loadable_in_place(self.model):
                with loaded_in_place(self.model):
                    self._destinations.load(arrivals)
            else:
                self.model.load_weights((name, tensor.to(self.device)) for name, tensor in arrivals)
        except Exception:
            arrivals.close()
            self.shutdown()  # the trainer would wait until the rest is received
            raise

    def _shared(self, update_info: GlooUpdateInfo) -> Generator[tuple[str, Tensor]]:
        """Reads each bucket of the shared memory once the trainer has filled it."""
        assert self._group is not None, "init_transfer_engine comes first"
        buckets = plan_buckets(update_info.specs, bucket_bytes=SHARED_BUCKET_BYTES)
        if self._memory is None or self._path != update_info.path:
            size = sum(bucket.num_bytes for bucket in buckets)
            self._memory, self._path = open_memory(update_info.path, size), update_info.path
        for number, (bucket, buffer) in enumerate(zip(buckets, memory_of_each(buckets, self._memory), strict=True)):
            self._group.await_told(bucket_filled(update_info.number, number))
            yield from bucket.views(buffer)

    def _received(self, buckets: list[Bucket]) -> Generator[tuple[str, Tensor]]:
        """Receives all, or a large share, whether it is loaded yet or not: so long the trainer waits."""
        assert self._group is not None, "init_transfer_engine comes first"
        parts = list(shares(buckets, max_bytes=MAX_BYTES_KEPT))
        for share in parts:
            places = [self._destinations.receiving(bucket) for bucket in share]
            sizes = [0 if place is not None else bucket.num_bytes for bucket, place in zip(share, places, strict=True)]
            # A layer's tensors may come in two shares, and are needed together.
            memory = self._kept_memory(sum(sizes)) if len(parts) == 1 else torch.empty(sum(sizes), dtype=torch.uint8)
            buffers = memory.split(sizes)
            targets = zip(places, buffers, strict=True)
            arriving = self._group.receive(buffer if place is None else place for place, buffer in targets)
            for bucket, place, buffer, work in zip(share, places, buffers, arriving, strict=True):
                work.wait()
                if place is None:
                    yield from bucket.views(buffer)

    def _kept_memory(self, num_bytes: int) -> Tensor:
        """Memory of the updates before: fresh pages would cost more than what is written into them."""
        if self._memory is None or len(self._memory) != num_bytes:
            self._memory = torch.empty(num_bytes, dtype=torch.uint8)
        return self._memory

    def shutdown(self) -> None:
        """Leaves the group."""
        self._group, self._memory, self._path = None, None, ""


def bucket_filled(update: int, bucket: int) -> str:
    """Returns what the trainer tells once it has filled a bucket of shared memory; updates and buckets are counted."""
    return f"filled/{update}/{bucket}"


def register() -> None:
    """Makes vLLM know the backend, and its processes end with the server that started them."""
    from lightning_r1v3.rollout.gloo_trainer import register_backend  # noqa: PLC0415
    from lightning_r1v3.rollout.server import SERVER_VARIABLE  # noqa: PLC0415
    from lightning_r1v3.rollout.server_process import end_with_parent  # noqa: PLC0415

    register_backend()
    if os.environ.get(SERVER_VARIABLE):
        end_with_parent()
        idle_waits.install()
        _LATE_PACKING.install()
