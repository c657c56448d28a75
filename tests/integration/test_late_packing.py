"""vLLM's own preparation of layers, in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from served_policy import NEEDS_VLLM
from torch import nn
from torch.nn.functional import linear

from lightning_r1v3.rollout.late_packing import LatePackedProduct, LatePacking

pytestmark = NEEDS_VLLM


@pytest.fixture
def vllm_utils() -> Iterator[Any]:
    from vllm.model_executor.layers import utils  # noqa: PLC0415
    from vllm.platforms import current_platform  # noqa: PLC0415

    if not current_platform.is_cpu():
        pytest.skip("this vLLM has no kernels for CPUs")
    current_platform.import_kernels()
    own = utils.dispatch_cpu_unquantized_gemm
    yield utils
    utils.dispatch_cpu_unquantized_gemm = own


def test_vllm_keeps_matrices_in_float32_only(vllm_utils: Any) -> None:
    packing = LatePacking()
    packing.install()
    threads = os.sched_getaffinity(0)
    for dtype, is_kept in ((torch.float32, True), (torch.bfloat16, False)):
        layer: Any = nn.Linear(64, 32, bias=False, dtype=dtype).requires_grad_(False)
        vllm_utils.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
        assert isinstance(layer.cpu_linear, LatePackedProduct) == is_kept
        assert (layer.weight.numel() > 0) == is_kept
    layer = nn.Linear(64, 32, bias=False).requires_grad_(False)
    vllm_utils.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    layer.cpu_linear.unpack()
    layer.weight.data.fill_(0.5)
    inputs = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    packing.pack(layer)
    packing._thread.shutdown()
    assert layer.cpu_linear._packed is not None
    torch.testing.assert_close(layer.cpu_linear(inputs, layer.weight, None), linear(inputs, layer.weight))
    assert os.sched_getaffinity(0) == threads
