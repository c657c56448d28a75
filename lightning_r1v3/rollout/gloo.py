"""Weight transfer over gloo, for servers and trainers on CPUs: a backend of vLLM's weight-transfer API.

Servers that the trainer started are on its machine, and read the weights from memory that it shares with them instead.
vLLM loads `register` in each of its processes, through the entry point `vllm.general_plugins`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from vllm.distributed.weight_transfer import (
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
    WeightTransferEngine,
)
from vllm.distributed.weight_transfer.base import (
    TrainerInitInfo,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)

from lightning_r1v3.rollout.buckets import Bucket, TensorSpec, fill, filled, one_bucket, plan_buckets, shares
from lightning_r1v3.rollout.gloo_group import SENDER, GlooGroup, open_store
from lightning_r1v3.rollout.shared_memory import SharedMemory, open_memory

log = logging.getLogger(__name__)

ENGINE_NICENESS = 10
"""Priority of vLLM's engine beside its workers and the trainer, 0 being the usual one."""
MAX_BYTES_KEPT = 2**30
"""What a worker keeps beside its weights before it loads it, unless a single tensor is larger."""


@dataclass
class GlooTrainerInitInfo(TrainerInitInfo):
    """What the trainer needs to open the group."""

    backend: ClassVar[str] = "gloo"

    host: str
    """Address of the trainer, as the servers reach it; the group listens there and nowhere else."""
    world_size: int
    """Trainer and workers together."""
    timeout_s: float
    """For one exchange."""
    share_memory: bool
    """All servers are on the trainer's machine."""


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
    """Of the shared memory that holds them; empty where they are broadcast."""

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

    def init_transfer_engine(self, init_info: GlooInitInfo) -> None:
        """Joins the trainer's group; an earlier one is left."""
        # vLLM's engine, this process's parent, spins while its workers work: in the trainer's way on a small machine.
        with suppress(PermissionError):  # it may have a lower priority already
            os.setpriority(os.PRIO_PROCESS, os.getppid(), ENGINE_NICENESS)
        self.shutdown()
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

        initialize_layerwise_reload(self.model)

    def finish_weight_update(self) -> None:
        """Finishes layers of which not all was sent; those of which nothing was sent keep their weights."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload  # noqa: PLC0415

        finalize_layerwise_reload(self.model, self.model_config)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receives one update; the base class would wait for an accelerator besides."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: GlooUpdateInfo) -> None:
        """Loads what was sent."""
        arrivals = self._shared(update_info) if update_info.path else self._arrivals(plan_buckets(update_info.specs))
        self.model.load_weights((name, tensor.to(self.device)) for name, tensor in arrivals)

    def _shared(self, update_info: GlooUpdateInfo) -> list[tuple[str, Tensor]]:
        whole = one_bucket(update_info.specs)
        if self._memory is None or self._path != update_info.path:
            self._memory, self._path = open_memory(update_info.path, whole.num_bytes), update_info.path
        return whole.views(self._memory)

    def _arrivals(self, buckets: list[Bucket]) -> Iterator[tuple[str, Tensor]]:
        """Receives all, or a large share, before it is loaded: so long the trainer waits."""
        assert self._group is not None, "init_transfer_engine comes first"
        parts = list(shares(buckets, max_bytes=MAX_BYTES_KEPT))
        for share in parts:
            sizes = [bucket.num_bytes for bucket in share]
            # A layer's tensors may come in two shares, and are needed together.
            memory = self._kept_memory(sum(sizes)) if len(parts) == 1 else torch.empty(sum(sizes), dtype=torch.uint8)
            buffers = memory.split(sizes)
            for work in [self._group.broadcast(buffer) for buffer in buffers]:
                work.wait()
            for bucket, buffer in zip(share, buffers, strict=True):
                yield from bucket.views(buffer)

    def _kept_memory(self, num_bytes: int) -> Tensor:
        """Memory of the updates before: fresh pages would cost more than what is written into them."""
        if self._memory is None or len(self._memory) < num_bytes:
            self._memory = torch.empty(num_bytes, dtype=torch.uint8)
        return self._memory[:num_bytes]

    def shutdown(self) -> None:
        """Leaves the group."""
        self._group, self._memory, self._path = None, None, ""


class GlooTrainerEngine(TrainerWeightTransferEngine[GlooTrainerInitInfo]):
    """The trainer's side. Every rank runs it; only the sender, rank 0, is in the group and talks to the servers."""

    init_info_cls = GlooTrainerInitInfo
    _group: GlooGroup | None = None
    _share_memory = False
    _memory: SharedMemory | None = None
    _loaded: Future[None] | None = None

    @classmethod
    def trainer_init(
        cls, init_info: GlooTrainerInitInfo, *, client: VLLMWeightSyncClient, source: WeightSource | None = None
    ) -> Self:
        """Opens the group together with the servers."""
        assert source is not None, "the weights to send"
        engine = cls(client=client, source=source, is_sender=init_info.is_sender)
        if engine.is_sender:
            engine._open(init_info)
        return engine

    def _open(self, init_info: GlooTrainerInitInfo) -> None:
        host, world_size, timeout_s = init_info.host, init_info.world_size, init_info.timeout_s
        store, port = open_store(host, timeout_s=timeout_s)
        worker = GlooInitInfo(host, port, rank_offset=SENDER + 1, world_size=world_size, timeout_s=timeout_s)
        with _beside(self.client.init_weight_transfer_engine, vars(worker)) as joined:
            self._group = GlooGroup(store, host, rank=SENDER, world_size=world_size, timeout_s=timeout_s)
        joined.result()
        self._share_memory = init_info.share_memory

    def send_weights(self) -> None:
        """Sends everything that the source yields; on other ranks than the sender takes part in gathering it.

        Returns once it is sent, so that it may change; `finish` is to follow.
        """
        assert self.source is not None
        if not self.is_sender:
            for _ in self.source:
                pass
            return
        specs = [TensorSpec(meta.name, meta.dtype, meta.shape) for meta in self.source.metadata()]
        update: dict[str, Any] = {
            "names": [spec.name for spec in specs],
            "dtype_names": [str(spec.dtype).removeprefix("torch.") for spec in specs],
            "shapes": [list(spec.shape) for spec in specs],
        }
        self.client.start_weight_update()
        memory = self._shared_memory(specs)
        if memory is not None:
            fill(one_bucket(specs), memory.content, iter(self.source))
            update["path"] = str(memory.path)
        with _beside(self.client.update_weights, update) as self._loaded:
            if memory is None:
                self._broadcast(plan_buckets(specs))

    def _shared_memory(self, specs: list[TensorSpec]) -> SharedMemory | None:
        """Memory for the tensors, made the first time, when all are sent; None where there is none to share."""
        if self._memory is None and self._share_memory:
            try:
                self._memory = SharedMemory(one_bucket(specs).num_bytes)
            except OSError as error:
                log.info("weights are sent over gloo, not by shared memory: %s", error)
                self._share_memory = False
        return self._memory

    def _broadcast(self, buckets: list[Bucket]) -> None:
        assert self._group is not None, "trainer_init opens it"
        assert self.source is not None
        before: Any = None
        for buffer in filled(buckets, self.source):
            sent = self._group.broadcast(buffer)
            if before is not None:
                before.wait()
            before = sent
        if before is not None:
            before.wait()

    def finish(self) -> None:
        """Waits until the servers have loaded what was sent, and ends the update."""
        if self.is_sender:
            assert self._loaded is not None, "send_weights comes first"
            self._loaded.result()
            if self._memory is not None:
                self._memory.unlink()  # all have it open
            self.client.finish_weight_update()

    def shutdown(self) -> None:
        """Closes the group."""
        if self._memory is not None:
            self._memory.unlink()
        self._group = self._memory = None


def register() -> None:
    """Makes vLLM know the backend, and its processes end with the server that started them."""
    from lightning_r1v3.rollout.server import SERVER_VARIABLE  # noqa: PLC0415
    from lightning_r1v3.rollout.server_process import end_with_parent  # noqa: PLC0415

    register_backend()
    if os.environ.get(SERVER_VARIABLE):
        end_with_parent()


def register_backend() -> None:
    """Adds `gloo` to vLLM's backends, once."""
    from vllm.distributed.weight_transfer import (  # noqa: PLC0415
        WeightTransferEngineFactory,
        WeightTransferTrainerFactory,
    )

    if "gloo" not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine("gloo", GlooTransferEngine)
        WeightTransferTrainerFactory.register_engine("gloo", GlooTrainerEngine)


@contextmanager
def _beside(call: Callable[[Any], None], argument: Any) -> Iterator[Future[None]]:
    """Starts a call that waits for the other side, which the body is; its error is the cause of the body's."""
    thread = ThreadPoolExecutor(1)
    pending = thread.submit(call, argument)
    thread.shutdown(wait=False)
    try:
        yield pending
    except RuntimeError as error:
        raise (pending.exception() or error) from error
