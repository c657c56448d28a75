from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_r1v3.data.batches import EpochBatches
from lightning_r1v3.data.order import SampleOrder

IN_ORDER = SampleOrder([7], shuffle=False)


def test_batches_cover_the_epoch_and_carry_their_cursor() -> None:
    plans = list(EpochBatches(IN_ORDER, 3))
    assert [(plan.samples, plan.epoch, plan.cursor) for plan in plans] == [
        ((0, 1, 2), 0, 3),
        ((3, 4, 5), 0, 6),
        ((6,), 0, 7),
    ]


def test_a_rank_reads_the_positions_congruent_to_it() -> None:
    batches = EpochBatches(IN_ORDER, 4, rank=1, world_size=2)
    assert [plan.samples for plan in batches] == [(1, 3), (5,)]


def test_a_rank_without_a_sample_still_has_the_batch() -> None:
    plans = list(EpochBatches(IN_ORDER, 3, rank=1, world_size=2))
    assert [plan.samples for plan in plans] == [(1,), (3, 5), ()]


def test_drop_last_leaves_out_the_rest() -> None:
    batches = EpochBatches(IN_ORDER, 3, drop_last=True)
    assert [plan.cursor for plan in batches] == [3, 6]
    assert len(batches) == 2


def test_the_length_is_the_whole_epoch_wherever_it_resumes() -> None:
    batches = EpochBatches(IN_ORDER, 3)
    batches.resume(2, 6)
    assert len(batches) == 3
    assert [(plan.samples, plan.epoch) for plan in batches] == [((6,), 2)]


def test_set_epoch_keeps_a_resumed_cursor_and_restarts_another_epoch() -> None:
    batches = EpochBatches(IN_ORDER, 3)
    batches.resume(2, 6)
    batches.set_epoch(2)
    assert batches.cursor == 6
    batches.set_epoch(3)
    assert (batches.epoch, batches.cursor) == (3, 0)


@given(
    st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3), st.integers(0, 40)
)
def test_every_sample_is_read_once_whatever_changes_at_the_resume(
    size: int, batch: int, other_batch: int, world: int, other_world: int, stop_after: int
) -> None:
    order = SampleOrder([size], seed=5)
    read, cursor = [], 0
    for rank in range(world):
        for plan in list(EpochBatches(order, batch, rank=rank, world_size=world))[:stop_after]:
            read.extend(plan.samples)
            cursor = plan.cursor
    for rank in range(other_world):
        rest = EpochBatches(order, other_batch, rank=rank, world_size=other_world)
        rest.resume(0, cursor)
        read.extend(sample for plan in rest for sample in plan.samples)
    assert sorted(read) == list(range(size))


@pytest.mark.parametrize("cursor", [-1, 8])
def test_a_cursor_outside_the_epoch_is_refused(cursor: int) -> None:
    with pytest.raises(ValueError, match="an epoch has 7 samples"):
        EpochBatches(IN_ORDER, 3).resume(0, cursor)


@pytest.mark.parametrize(("batch_size", "rank"), [(0, 0), (1, 2), (1, -1)])
def test_numbers_out_of_range_are_refused(batch_size: int, rank: int) -> None:
    with pytest.raises(ValueError, match="world_size"):
        EpochBatches(IN_ORDER, batch_size, rank=rank, world_size=2)


def test_an_epoch_without_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="drop_last leaves no batch"):
        EpochBatches(IN_ORDER, 8, drop_last=True)
