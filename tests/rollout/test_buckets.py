from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_r1v3.rollout.buckets import TensorSpec, filled, plan_buckets, shares

TENSORS: list[tuple[str, Tensor]] = [
    ("a", torch.arange(3, dtype=torch.bfloat16)),
    ("b", torch.arange(4.0).view(2, 2).T),
    ("large", torch.arange(40.0)),
    ("c", torch.tensor(7, dtype=torch.int64)),
]
SPECS = [TensorSpec(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS]


@pytest.mark.parametrize("bucket_bytes", [1, 64, 10_000])
def test_what_is_packed_comes_out(bucket_bytes: int) -> None:
    buckets = plan_buckets(SPECS, bucket_bytes=bucket_bytes)
    buffers = [buffer.clone() for buffer in filled(buckets, TENSORS)]
    received = [pair for bucket, buffer in zip(buckets, buffers, strict=True) for pair in bucket.views(buffer)]
    assert [name for name, _ in received] == [name for name, _ in TENSORS]
    for (_, got), (_, sent) in zip(received, TENSORS, strict=True):
        assert got.dtype == sent.dtype
        assert torch.equal(got, sent)


def test_a_bucket_is_closed_once_it_is_large() -> None:
    assert [len(bucket.specs) for bucket in plan_buckets(SPECS, bucket_bytes=64)] == [3, 1]


@pytest.mark.parametrize(("max_bytes", "sizes"), [(1, [1, 1, 1, 1]), (160, [2, 1, 1]), (10_000, [4])])
def test_shares_hold_at_most_so_many_bytes_or_one_bucket(max_bytes: int, sizes: list[int]) -> None:
    buckets = plan_buckets(SPECS, bucket_bytes=1)
    parts = list(shares(buckets, max_bytes=max_bytes))
    assert [bucket for part in parts for bucket in part] == buckets
    assert [len(part) for part in parts] == sizes


def test_the_buffer_before_may_still_be_on_its_way() -> None:
    buffers = filled(plan_buckets([SPECS[0], SPECS[3]] * 3, bucket_bytes=32), [TENSORS[0], TENSORS[3]] * 3)
    first, second = next(buffers), next(buffers)
    assert first.data_ptr() != second.data_ptr()


def test_every_buffer_is_as_large_as_planned() -> None:
    buckets = plan_buckets(SPECS, bucket_bytes=1)
    assert [len(buffer) for buffer in filled(buckets, TENSORS)] == [bucket.num_bytes for bucket in buckets]


def test_another_tensor_than_planned_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected TensorSpec.*'b'"):
        list(filled(plan_buckets(SPECS), [TENSORS[0], TENSORS[2]]))
