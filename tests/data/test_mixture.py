from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from lightning_r1v3.data.batches import EpochBatches, SampleBatch
from lightning_r1v3.data.mixture import Mixture
from lightning_r1v3.data.order import SampleOrder
from lightning_r1v3.data.shard_set import ShardSet


@pytest.fixture
def mixture(shard: Callable[..., Path], sample: Callable[..., list[tuple[str, bytes]]]) -> Mixture:
    first = shard([*sample("a"), *sample("bad", answer="")], "0.tar")
    second = shard([member for key in "bcd" for member in sample(key)], "1.tar")
    return Mixture([ShardSet(str(first)), ShardSet(str(second))])


def test_the_sets_are_counted_one_after_the_other(mixture: Mixture) -> None:
    assert mixture.sizes == (2, 3)
    assert [read and read.id for read in map(mixture.__getitem__, range(5))] == ["a", None, "b", "c", "d"]
    assert mixture.num_bad == 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_gives_whole_batches_with_their_cursor(mixture: Mixture, num_workers: int) -> None:
    batches = EpochBatches(SampleOrder(mixture.sizes, shuffle=False), 2)
    loader = DataLoader(mixture, batch_sampler=batches, collate_fn=_ids, num_workers=num_workers)
    assert list(loader) == [(["a"], 0, 2), (["b", "c"], 0, 4), (["d"], 0, 5)]
    assert len(loader) == 3


def _ids(batch: SampleBatch) -> tuple[list[str], int, int]:
    return [sample.id for sample in batch.samples], batch.epoch, batch.cursor


def test_a_mixture_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Mixture([])
