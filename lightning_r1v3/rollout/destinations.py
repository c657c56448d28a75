"""Where weights end up in vLLM's model, learned by watching a load: later ones are received there, and not copied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lightning_r1v3.rollout.buckets import Bucket
from lightning_r1v3.rollout.late_packing import LatePackedProduct, late_packed


class Destinations:
    """Of the weights that a model takes over whole and as they come."""

    def __init__(self, model: nn.Module) -> None:
        """Knows none yet.

        Args:
            model: One that is loaded in place (`is_loadable_in_place`), with vLLM's `load_weights`.
        """
        self._model: Any = model
        self._known: dict[str, tuple[Tensor, list[LatePackedProduct]]] = {}

    def load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Loads weights; the first ones are watched."""
        if self._known:
            self._model.load_weights(weights)
            return
        products = defaultdict(list)
        for layer, product in late_packed(self._model):
            products[_storage(layer.weight)].append(product)
        parameters = {_storage(parameter) for parameter in self._model.parameters()}
        with _Readings() as readings:
            self._model.load_weights(readings.watched(weights))
        for name, copy in readings.only_copies:
            if _storage(copy) in parameters:
                self._known[name] = copy, products[_storage(copy)]

    def receiving(self, bucket: Bucket) -> Tensor | None:
        """Returns where a bucket is to be received, uint8 `[num_bytes]`; None where it is to be loaded.

        Layers whose weights are in it no longer answer with what was made of the old ones.
        """
        spec = bucket.specs[0]
        if not bucket.is_one_tensor or spec.name not in self._known:
            return None
        place, products = self._known[spec.name]
        if (place.dtype, place.shape) != (spec.dtype, spec.shape):
            return None
        for product in products:
            product.unpack()
        return place.view(-1).view(torch.uint8)


class _Readings(TorchDispatchMode):
    """Watches what reads weights while they are loaded."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.only_copies: list[tuple[str, Tensor]] = []
        """Names, and the copies of weights that nothing else has read; of the same layout, and equal since."""
        self._weight = torch.empty(0)
        self._copies: list[Tensor | None] = []

    def watched(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Yields the weights. What reads one only once the next has come is not seen: that one has no copy."""
        for name, weight in weights:
            self._weight, self._copies = weight, []
            yield name, weight
            self._weight = torch.empty(0)
            if len(self._copies) == 1 and self._copies[0] is not None and torch.equal(self._copies[0], weight):
                self.only_copies.append((name, self._copies[0]))

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not operation.is_view:
            for tensor in tree_leaves((args, kwargs)):
                if isinstance(tensor, Tensor) and _is_within(tensor, self._weight):
                    is_copied = operation is torch.ops.aten.copy_.default and tensor is args[1]
                    is_whole = _layout(tensor) == _layout(args[0]) == _layout(self._weight)
                    self._copies.append(args[0] if is_copied and is_whole else None)
        return operation(*args, **(kwargs or {}))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _is_within(part: Tensor, whole: Tensor) -> bool:
    return 0 <= part.data_ptr() - whole.data_ptr() < whole.nbytes


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.shape, tensor.stride()
