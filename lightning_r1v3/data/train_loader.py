"""The training loader: every pass goes on behind the last batch that was trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any

from torch.utils.data import DataLoader

from lightning_r1v3.data.batches import EpochBatches
from lightning_r1v3.data.stream import ShardStream
from lightning_r1v3.types import ExampleBatch

Position = tuple[int, int]
"""Epoch, and global cursor in it."""


class TrainLoader(DataLoader[ExampleBatch]):
    """A loader that asks where training stands whenever it is iterated, and only once its first batch is wanted.

    Lightning makes the first iterator before it has restored everything, and tells the epoch to the samplers of torch
    only; so the position comes from the datamodule, and late.
    """

    def __init__(
        self, source: EpochBatches | ShardStream, position: Callable[[], Position], *, epoch_size: int, **options: Any
    ) -> None:
        """Stores the settings.

        Args:
            source: The loader's batch sampler or dataset, which can be sent to a position.
            position: Returns where the last trained batch ended.
            epoch_size: Samples of an epoch over all ranks.
            options: Of the `DataLoader`.
        """
        super().__init__(**options)
        self._source = source
        self._position = position
        self._epoch_size = epoch_size

    def __iter__(self) -> Iterator[ExampleBatch]:  # type: ignore[override]
        """Yields the batches from where training stands to the end of the epoch; of the next one if that is the end."""
        epoch, cursor = self._position()
        self._source.resume(*((epoch, cursor) if cursor < self._epoch_size else (epoch + 1, 0)))
        yield from _looking_ahead(super().__iter__())

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing: the datamodule holds the state. Its being here tells Lightning that the loader resumes."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes nothing up; see `state_dict`."""


def _looking_ahead(batches: Iterable[ExampleBatch]) -> Iterator[ExampleBatch]:
    """Yields each batch with the samples of the next."""
    for batch, following in pairwise(chain(batches, [ExampleBatch(())])):
        yield replace(batch, upcoming=following.examples)
