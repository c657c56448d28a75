from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_r1v3.rollout.buckets import TensorSpec, filled, memory_of_each, own_memories, plan_buckets, shares

TENSORS: list[tuple[str, Tensor]] = [
    ("a", torch.arange(3, dtype=torch.bfloat16)),
    ("b", torch.arange(4.0).view(2, 2).T),
    ("large", torch.arange(40.0)),
    ("c", torch.tensor(7, dtype=torch.int64)),
]
SPECS = [TensorSpec(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS]


@pytest.mark.parametrize("bucket_bytes", [1, 64, 10_000])
@pytest.mark.parametrize("stay", [True, False], ids=["where they lie", "copied"])
def test_what_is_packed_comes_out(bucket_bytes: int, stay: bool) -> None:
    buckets = plan_buckets(SPECS, bucket_bytes=bucket_bytes)
    total = torch.empty(sum(bucket.num_bytes for bucket in buckets), dtype=torch.uint8)
    memories = own_memories(buckets) if stay else memory_of_each(buckets, total)
    buffers = [buffer.clone() for buffer in filled(buckets, memories, TENSORS)]
    received = dict(pair for bucket, buffer in zip(buckets, buffers, strict=True) for pair in bucket.views(buffer))
    assert received.keys() == {name for name, _ in TENSORS}
    for name, sent in TENSORS:
        assert received[name].dtype == sent.dtype
        assert torch.equal(received[name], sent)


def test_large_tensors_travel_alone_and_overtake_small_ones() -> None:
    buckets = plan_buckets(SPECS, bucket_bytes=64)
    assert [[spec.name for spec in bucket.specs] for bucket in buckets] == [["large"], ["a", "b", "c"]]


def test_a_bucket_of_small_tensors_is_closed_once_it_is_large() -> None:
    buckets = plan_buckets([spec for spec in SPECS if spec.name != "large"], bucket_bytes=20)
    assert [[spec.name for spec in bucket.specs] for bucket in buckets] == [["a", "b"], ["c"]]


def test_large_tensors_are_not_copied() -> None:
    buckets = plan_buckets(SPECS, bucket_bytes=64)
    large = next(filled(buckets, own_memories(buckets), TENSORS))
    assert large.data_ptr() == dict(TENSORS)["large"].data_ptr()


@pytest.mark.parametrize(("max_bytes", "sizes"), [(1, [1, 1, 1, 1]), (160, [2, 1, 1]), (10_000, [4])])
def test_shares_hold_at_most_so_many_bytes_or_one_bucket(max_bytes: int, sizes: list[int]) -> None:
    buckets = plan_buckets(SPECS, bucket_bytes=1)
    parts = list(shares(buckets, max_bytes=max_bytes))
    assert [bucket for part in parts for bucket in part] == buckets
    assert [len(part) for part in parts] == sizes


def test_every_buffer_is_as_large_as_planned() -> None:
    buckets = plan_buckets(SPECS, bucket_bytes=1)
    sizes = [len(buffer) for buffer in filled(buckets, own_memories(buckets), TENSORS)]
    assert sizes == [bucket.num_bytes for bucket in buckets]


@pytest.mark.parametrize("order", [[3, 0, 1, 2], [0, 2, 1, 3]])
def test_buckets_keep_their_order_when_tensors_do_not(order: list[int]) -> None:
    buckets = plan_buckets(SPECS, bucket_bytes=64)
    memories = own_memories(buckets)
    expected = [buffer.clone() for buffer in filled(buckets, memories, TENSORS)]
    got = [buffer.clone() for buffer in filled(buckets, memories, [TENSORS[i] for i in order])]
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


@pytest.mark.parametrize("came", [("b", torch.zeros(2)), ("b", torch.zeros(2, 2).half()), ("other", torch.zeros(1))])
def test_another_tensor_than_planned_is_an_error(came: tuple[str, Tensor]) -> None:
    buckets = plan_buckets(SPECS)
    with pytest.raises(ValueError, match=f"expected .* got TensorSpec.*'{came[0]}'"):
        list(filled(buckets, own_memories(buckets), [TENSORS[0], came]))


def test_a_missing_tensor_is_an_error() -> None:
    buckets = plan_buckets(SPECS, bucket_bytes=64)
    with pytest.raises(ValueError, match=r"expected .*'c'.*, got no more"):
        list(filled(buckets, own_memories(buckets), TENSORS[:3]))
