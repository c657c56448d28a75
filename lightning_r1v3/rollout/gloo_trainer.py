"""Weight transfer over gloo, the trainer's side: for servers on CPUs, a backend of vLLM's weight-transfer API."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor
from vllm.distributed.weight_transfer import (
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
    WeightTransferEngineFactory,
    WeightTransferTrainerFactory,
)
from vllm.distributed.weight_transfer.base import TrainerInitInfo

from lightning_r1v3.rollout.buckets import Bucket, TensorSpec, filled, memory_of_each, own_memories, plan_buckets
from lightning_r1v3.rollout.gloo import SHARED_BUCKET_BYTES, GlooInitInfo, GlooTransferEngine, bucket_filled
from lightning_r1v3.rollout.gloo_group import SENDER, GlooGroup, open_store
from lightning_r1v3.rollout.shared_memory import SharedMemory

log = logging.getLogger(__name__)


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


class GlooTrainerEngine(TrainerWeightTransferEngine[GlooTrainerInitInfo]):
    """The trainer's side. Every rank runs it; only the sender, rank 0, is in the group and talks to the servers."""

    init_info_cls = GlooTrainerInitInfo
    _group: GlooGroup | None = None
    _share_memory = False
    _memory: SharedMemory | None = None
    _loaded: Future[None] | None = None
    _number = 0
    _told: Sequence[str] = ()

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
        assert self._group is not None, "trainer_init opens it"
        specs = [TensorSpec(meta.name, meta.dtype, meta.shape) for meta in self.source.metadata()]
        memory = self._shared_memory(specs)
        self._number += 1
        update = {
            "names": [spec.name for spec in specs],
            "dtype_names": [str(spec.dtype).removeprefix("torch.") for spec in specs],
            "shapes": [list(spec.shape) for spec in specs],
            "path": "" if memory is None else str(memory.path),
            "number": self._number,
        }
        if memory is None:
            self.client.start_weight_update()  # a server that fails here would be waited for
            with _beside(self.client.update_weights, update) as self._loaded:
                buckets = plan_buckets(specs)
                self._group.send(filled(buckets, own_memories(buckets), self.source))
        else:
            with _beside(self._update, update) as self._loaded:
                self._fill(memory.content, plan_buckets(specs, bucket_bytes=SHARED_BUCKET_BYTES))

    def _update(self, update: dict[str, Any]) -> None:
        self.client.start_weight_update()
        self.client.update_weights(update)

    def _shared_memory(self, specs: list[TensorSpec]) -> SharedMemory | None:
        """Memory for the tensors, made the first time, when all are sent; None where there is none to share."""
        if self._memory is None and self._share_memory:
            try:
                buckets = plan_buckets(specs, bucket_bytes=SHARED_BUCKET_BYTES)
                self._memory = SharedMemory(sum(bucket.num_bytes for bucket in buckets))
            except OSError as error:
                log.info("weights are sent over gloo, not by shared memory: %s", error)
                self._share_memory = False
        return self._memory

    def _fill(self, memory: Tensor, buckets: list[Bucket]) -> None:
        assert self._group is not None, "trainer_init opens it"
        assert self.source is not None
        self._told = [bucket_filled(self._number, number) for number in range(len(buckets))]
        parts = memory_of_each(buckets, memory)
        for message, _ in zip(self._told, filled(buckets, parts, self.source), strict=True):
            self._group.tell(message)

    def finish(self) -> None:
        """Waits until the servers have loaded what was sent, and ends the update."""
        if self.is_sender:
            assert self._loaded is not None, "send_weights comes first"
            self._loaded.result()
            if self._memory is not None:
                self._memory.unlink()  # all have it open
            self.client.finish_weight_update()
            self._forget_told()

    def _forget_told(self) -> None:
        if self._group is not None:  # closed meanwhile, with all that was told
            for message in self._told:
                self._group.forget(message)

    def shutdown(self) -> None:
        """Closes the group."""
        if self._memory is not None:
            self._memory.unlink()
        self._group = self._memory = None


def register_backend() -> None:
    """Adds `gloo` to vLLM's backends, once."""
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
