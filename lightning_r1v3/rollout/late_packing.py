"""Linear layers of vLLM on a CPU, ready before their weights are laid out anew.

vLLM's kernels keep weights in a layout of their own. To lay one out takes longer than to load it, and the plain weight
is given up. Here it is kept: new weights are copied into it, a layer answers with it at once, and a thread lays it out
meanwhile. That takes the memory of the weights once more.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lightning_r1v3.rollout.weight_loaders import weight_loaders_kept

_MATRIX = 2

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Inputs `[..., in]`, weight `[out, in]` and bias `[out]` to outputs `[..., out]`."""


class LatePacking:
    """How vLLM prepares the linear layers of this process, once installed."""

    def __init__(self) -> None:
        """Installs nothing yet."""
        self._thread = ThreadPoolExecutor(1, "late_packing", initializer=_run_beside_the_worker)

    def install(self) -> None:
        """Has layers that vLLM prepares from now on keep their weights."""
        from vllm.model_executor.layers import utils  # noqa: PLC0415

        prepare = utils.dispatch_cpu_unquantized_gemm

        def keep_weight(layer: Any, remove_weight: bool) -> None:
            weight = layer.weight
            if weight.is_meta or weight.dim() != _MATRIX or weight.dtype != torch.float32:
                prepare(layer, remove_weight)
                return
            prepare(layer, False)
            layer.cpu_linear = LatePackedProduct(layer.cpu_linear, prepare)

        utils.dispatch_cpu_unquantized_gemm = keep_weight

    def pack(self, model: nn.Module) -> None:
        """Starts to lay out what was loaded."""
        for layer, product in late_packed(model):
            self._thread.submit(product.pack, layer.weight)


class LatePackedProduct:
    """A layer's product with its weight: packed, or plain while it is not."""

    def __init__(self, packed: Product, prepare: Callable[[Any, bool], None]) -> None:
        """Starts packed.

        Args:
            packed: With the present weight.
            prepare: vLLM's own preparation of a layer.
        """
        self._packed: Product | None = packed
        self._outdated: Product | None = None
        self._prepare = prepare
        self._version = 0
        self._swap = threading.Lock()

    def __call__(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Returns the product."""
        product = self._packed or linear
        return product(inputs, weight, bias)

    def unpack(self) -> None:
        """To be called before the weight changes."""
        with self._swap:
            self._version += 1
            # To free its memory takes a tenth of a sync: `pack` has the time.
            self._outdated, self._packed = self._packed or self._outdated, None

    def pack(self, weight: Tensor) -> None:
        """Lays the weight out unless it is; in vain if it changes meanwhile."""
        version = self._version
        if self._packed is not None:
            return
        self._outdated = None
        prepared: Any = SimpleNamespace(weight=weight)
        self._prepare(prepared, False)
        with self._swap:
            if version == self._version:
                self._packed = prepared.cpu_linear


def late_packed(model: nn.Module) -> list[tuple[Any, LatePackedProduct]]:
    """Returns the layers that keep their weights."""
    layers = [(layer, getattr(layer, "cpu_linear", None)) for layer in model.modules()]
    return [(layer, product) for layer, product in layers if isinstance(product, LatePackedProduct)]


def is_loadable_in_place(model: nn.Module) -> bool:
    """Whether vLLM made nothing else of the model's weights than what `LatePacking` keeps up."""
    return all(
        isinstance(getattr(layer, "cpu_linear", None), LatePackedProduct)
        for layer in model.modules()
        if getattr(layer, "quant_method", None) is not None
    )


@contextmanager
def loaded_in_place(model: nn.Module) -> Iterator[None]:
    """Has layers whose weights are loaded in the body answer with what they have."""
    layers = late_packed(model)
    with weight_loaders_kept(layer.weight for layer, _ in layers):
        for layer, product in layers:  # tied layers share a weight, whose loader is wrapped once for each
            layer.weight.weight_loader = _unpacking(product, layer.weight.weight_loader)
        yield


def _unpacking(product: LatePackedProduct, load: Callable[..., Any]) -> Callable[..., Any]:
    def unpack_and_load(*arguments: Any, **options: Any) -> Any:
        product.unpack()
        return load(*arguments, **options)

    return unpack_and_load


def _run_beside_the_worker() -> None:
    """Lets the calling thread run on all the processors of vLLM's engine, our parent; vLLM binds its worker to some.

    At the usual priority: while layers are not laid out, completions take longer than laying them out does.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox that forbids it
            os.sched_setaffinity(0, os.sched_getaffinity(os.getppid()))
