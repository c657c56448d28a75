"""Shards in, batches of examples out, resumable at any step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning import LightningDataModule
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, get_worker_info

from lightning_r1v3.backbone.load import load_processor
from lightning_r1v3.data.balanced_order import BalancedOrder
from lightning_r1v3.data.batches import EpochBatches, Order, SampleBatch
from lightning_r1v3.data.curriculum_order import CurriculumOrder
from lightning_r1v3.data.faults import BadSamplePolicy
from lightning_r1v3.data.mixture import Mixture
from lightning_r1v3.data.order import SampleOrder
from lightning_r1v3.data.pictures import MAX_IMAGE_PIXELS
from lightning_r1v3.data.preprocess import Preprocessor
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.data.shard_paths import is_stream
from lightning_r1v3.data.shard_set import ShardSet
from lightning_r1v3.data.shared_zeros import shared_zeros
from lightning_r1v3.data.stream import ShardStream
from lightning_r1v3.data.train_loader import Position, TrainLoader
from lightning_r1v3.types import ExampleBatch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """One shard set of a mixture."""

    shards: str | list[str]
    """Paths, globs or brace patterns; or URLs and `pipe:` commands, which are read as a stream."""
    weight: float | None = None
    """Share of the draws, relative to the other sources; None in all of them: in proportion to their sizes."""


class ShardDataModule(LightningDataModule):
    """Training and validation batches from WebDataset shards.

    The state is (epoch, cursor) of the last *trained* batch, the same on every rank, so that a resumed run trains
    exactly the rest of the epoch, at any number of workers and processes.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (the keys of `data` in a YAML)
        self,
        path: str,
        train: list[Source],
        val: list[Source] | None = None,
        prompt: PromptFormat | None = None,
        batch_size: int = 64,
        val_batch_size: int = 64,
        max_tokens: int = 16384,
        num_workers: int = 0,
        seed: int = 0,
        on_bad_sample: BadSamplePolicy = "skip",
        max_image_pixels: int = MAX_IMAGE_PIXELS,
        batches_per_epoch: int | None = None,
        balance_domains: bool = False,
        curriculum: dict[int, list[str]] | None = None,
    ) -> None:
        """Finds the shards and loads the processor.

        Args:
            path: Checkpoint folder whose processor makes tokens and pixels; the command line takes the backbone's.
            train: What is trained on.
            val: What is validated on, and predicted, in file order.
            prompt: The wording around a question.
            batch_size: Samples of an optimizer batch over all processes.
            val_batch_size: Samples of a validation batch over all processes.
            max_tokens: Longest sample; a longer one is dropped and counted.
            num_workers: Loader processes per trainer process.
            seed: Of the order.
            on_bad_sample: `skip` counts and names a bad sample, `raise` stops.
            max_image_pixels: Largest picture, width x height.
            batches_per_epoch: Length of an epoch of streamed shards, which have no length of their own.
            curriculum: From which training step on which difficulties are drawn, e.g. `{0: [normal], 200: [hard]}`.
            balance_domains: Give every `domain` the same share of each batch, instead of its share of the samples.

        Raises:
            ValueError: A pattern matches nothing, weights are partly given, there are no domains to balance, a number
                is out of range, or the folder is no checkpoint.
        """
        super().__init__()
        self.train_sources, self.val_sources = train, val or []
        self.preprocessor = Preprocessor(load_processor(path), prompt or PromptFormat(), max_tokens=max_tokens)
        self.batch_size, self.val_batch_size = batch_size, val_batch_size
        self.num_workers, self.seed = num_workers, seed
        self.on_bad_sample: BadSamplePolicy = on_bad_sample
        self.max_image_pixels = max_image_pixels
        self.batches_per_epoch = batches_per_epoch
        self.balance_domains, self.curriculum = balance_domains, curriculum
        self._check_numbers()
        self._weights = _all_or_none([source.weight for source in train])
        self._streamed = _is_streamed(train)
        self._check_order()
        self._train_set = None if self._streamed else self._mixture(train)
        self._train_order = None if self._train_set is None else self._order_of(self._train_set)
        self._val_set = self._mixture(self.val_sources) if self.val_sources else None
        self._num_dropped = shared_zeros(max(1, num_workers))
        self._fetched: Position = (0, 0)
        self._fetched_before: Position = (0, 0)

    def train_dataloader(self) -> TrainLoader:
        """Returns this rank's loader; each pass over it goes on behind the last trained batch."""
        options: dict[str, Any] = {"collate_fn": self._collate, "num_workers": self.num_workers}
        if self._train_order is None:
            stream = self._stream()
            size = self.batch_size * len(stream)
            return TrainLoader(stream, self._trained, epoch_size=size, dataset=stream, batch_size=None, **options)
        rank, world_size = self._place()
        batches = EpochBatches(self._train_order, self.batch_size, rank=rank, world_size=world_size)
        options |= {"dataset": self._train_set, "batch_sampler": batches}
        return TrainLoader(batches, self._trained, epoch_size=batches.length, **options)

    def val_dataloader(self) -> DataLoader[ExampleBatch] | list[DataLoader[ExampleBatch]]:
        """Returns this rank's loader of the validation shards, in file order; none where a fit has no such shards.

        Raises:
            ValueError: There are no such shards, and they are all that is asked for.
        """
        if self._val_set is None:
            asked = TrainerFn.FITTING if self.trainer is None else self.trainer.state.fn
            if asked is not None and asked != TrainerFn.FITTING:
                raise ValueError(f"data.val: {asked.value} needs shards to read, got none")
            return []
        order = SampleOrder(self._val_set.sizes, shuffle=False)
        rank, world_size = self._place()
        batches = EpochBatches(order, self.val_batch_size, rank=rank, world_size=world_size)
        options: dict[str, Any] = {"collate_fn": self._collate, "num_workers": self.num_workers}
        loader: DataLoader[ExampleBatch] = DataLoader(self._val_set, batch_sampler=batches, **options)  # type: ignore[arg-type]
        return loader

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader

    def transfer_batch_to_device(
        self,
        batch: ExampleBatch,
        device: Any,  # noqa: ARG002
        dataloader_idx: int,  # noqa: ARG002
    ) -> ExampleBatch:
        """Leaves the batch on the host: its packed rows go to the device one at a time."""
        if self.trainer is not None and self.trainer.training:
            self._fetched_before, self._fetched = self._fetched, (batch.epoch, batch.cursor)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Returns epoch and global cursor of the last batch that was trained, and what the order depends on."""
        epoch, cursor = self._trained()
        return {"epoch": epoch, "cursor": cursor, "order": self._order()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the state up again, where training goes on.

        Raises:
            ValueError: The order is another one than that of the state, so the rest of it has no meaning.
        """
        if self.trainer is not None and self.trainer.state.fn != TrainerFn.FITTING:
            return
        now = self._order()
        changed = [
            f"{key} {old!r} is now {now.get(key)!r}" for key, old in state_dict["order"].items() if old != now[key]
        ]
        if changed:
            raise ValueError(
                f"data: the checkpoint stands inside another order of samples: {', '.join(changed)}. Resume with the "
                "data as it was, or start a new run from the earlier one's hf folder"
            )
        self._fetched = self._fetched_before = (state_dict["epoch"], state_dict["cursor"])

    def teardown(self, stage: str) -> None:  # noqa: ARG002
        """Says how many samples were left out."""
        bad = sum(dataset.num_bad for dataset in (self._train_set, self._val_set) if dataset is not None)
        if bad or self.num_dropped:
            log.warning("left out: %d bad samples, %d dropped as too long or unusable", bad, self.num_dropped)

    @property
    def num_dropped(self) -> int:
        """Times that the preprocessor dropped a sample, in this process and its workers."""
        return int(self._num_dropped.sum())

    def _trained(self) -> Position:
        """Where the last trained batch ended: the one before, while the last fetched is being trained."""
        if self.trainer is None:
            return self._fetched
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        assert isinstance(progress, _ProcessedTracker)
        return self._fetched if progress.processed >= progress.ready else self._fetched_before

    def _order(self) -> dict[str, Any]:
        """What the order of the samples depends on."""
        order = {"seed": self.seed, "batch_size": self.batch_size, "weights": self._weights}
        if self._train_set is not None:
            options = {"balance_domains": self.balance_domains, "curriculum": self.curriculum}
            return order | {"samples": list(self._train_set.sizes)} | options
        place = {"world_size": self._place()[1], "num_workers": self.num_workers}
        return order | place | {"shards": [_as_list(source.shards) for source in self.train_sources]}

    def _collate(self, batch: SampleBatch) -> ExampleBatch:
        examples = [self.preprocessor(sample) for sample in batch.samples]
        kept = tuple(example for example in examples if example is not None)
        worker = get_worker_info()
        self._num_dropped[worker.id if worker else 0] += len(examples) - len(kept)
        return ExampleBatch(kept, batch.epoch, batch.cursor)

    def _mixture(self, sources: Sequence[Source]) -> Mixture:
        options: dict[str, Any] = {"on_bad_sample": self.on_bad_sample, "max_image_pixels": self.max_image_pixels}
        return Mixture([ShardSet(source.shards, **options) for source in sources])

    def _order_of(self, mixture: Mixture) -> Order:
        if self.balance_domains:
            return BalancedOrder(mixture.field("domain"), seed=self.seed)
        if self.curriculum is not None:
            return CurriculumOrder(mixture.field("difficulty"), self.curriculum, self.batch_size, seed=self.seed)
        return SampleOrder(mixture.sizes, self._weights, seed=self.seed)

    def _stream(self) -> ShardStream:
        assert self.batches_per_epoch is not None
        rank, world_size = self._place()
        return ShardStream(
            [shard for source in self.train_sources for shard in _as_list(source.shards)],
            batch_size=self.batch_size,
            batches_per_epoch=self.batches_per_epoch,
            seed=self.seed,
            on_bad_sample=self.on_bad_sample,
            max_image_pixels=self.max_image_pixels,
            rank=rank,
            world_size=world_size,
        )

    def _place(self) -> tuple[int, int]:
        """This process's rank, and how many there are."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _check_order(self) -> None:
        if self._streamed and self.batches_per_epoch is None:
            raise ValueError("data.batches_per_epoch: streamed shards have no length, give the batches of an epoch")
        chosen = [name for name in ("balance_domains", "curriculum") if getattr(self, name)]
        if len(chosen) > 1 or (chosen and (self._streamed or self._weights)):
            raise ValueError(
                "data: balance_domains and curriculum need local shards without weights, and exclude each other: each "
                f"decides how often a sample is drawn; got {' and '.join(chosen)}"
            )

    def _check_numbers(self) -> None:
        numbers = {"batch_size": self.batch_size, "val_batch_size": self.val_batch_size}
        for name, number in (numbers | {"batches_per_epoch": self.batches_per_epoch}).items():
            if number is not None and number < 1:
                raise ValueError(f"data.{name}: expected at least 1, got {number}")
        if self.num_workers < 0 or self.seed < 0:
            raise ValueError(
                f"data: expected num_workers and seed of at least 0, got {self.num_workers} and {self.seed}"
            )


def _is_streamed(sources: Sequence[Source]) -> bool:
    remote = {is_stream(shard) for source in sources for shard in _as_list(source.shards)}
    if not remote:
        raise ValueError("data.train: expected at least one source of shards, got none")
    if len(remote) > 1:
        raise ValueError("data.train: local shards and streams do not mix; copy the remote shards, or stream all")
    return remote.pop()


def _as_list(shards: str | list[str]) -> list[str]:
    return [shards] if isinstance(shards, str) else shards


def _all_or_none(weights: Sequence[float | None]) -> list[float] | None:
    given = [weight for weight in weights if weight is not None]
    if given and len(given) != len(weights):
        raise ValueError(f"data.train: give a weight to every source or to none, got {list(weights)}")
    return given or None
