"""The backbone's weights as a checkpoint holds them, whole tensor after whole tensor."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from vllm.distributed.weight_transfer import ParamMeta, WeightSource

from lightning_r1v3.backbone import Backbone

_HEAD = "lm_head.weight"

Weight = tuple[str, torch.dtype, tuple[int, ...]]
"""Name, dtype and whole shape."""


class BackboneSource(WeightSource):
    """Every parameter, adapters merged, or only what trains or did. Where they are sharded, all ranks must iterate.

    Tied weights are sent under both names: vLLM may keep a copy of each, and would go on with the old head.
    """

    def __init__(self, backbone: Backbone, *, trainable_only: bool) -> None:
        """Stores the choice.

        Args:
            backbone: The policy.
            trainable_only: Leave out what is frozen.
        """
        self._backbone = backbone
        self._dtype = None if backbone.sharding is None else backbone.compute_dtype
        head = backbone.model.get_output_embeddings().weight
        self._head = next(name for name, parameter in backbone.model.named_parameters() if parameter is head)
        self.trainable_only = trainable_only
        self._trained: set[str] = set()
        self._running: Iterator[tuple[str, Tensor]] = iter(())

    def specs(self) -> list[tuple[str, list[int], bool]]:
        """Returns name, whole shape, and whether a forward pass needs it, of every parameter, frozen ones too."""
        return [(name, list(shape), not self._is_unused(name)) for name, _, shape in self._weights()]

    @property
    def num_bytes(self) -> int:
        """Bytes of one pass."""
        return sum(torch.Size(shape).numel() * dtype.itemsize for _, dtype, shape in self._weights(self._chosen()))

    def metadata(self) -> list[ParamMeta]:
        """Returns what a pass yields."""
        return [ParamMeta(*weight) for weight in self._weights(self._chosen())]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Starts a pass."""
        self._running = self._gathered()
        return self._running

    def finish_pass(self) -> None:
        """Ends a pass that broke off, so that the other ranks, which gather along, come to its end too."""
        for _ in self._running:
            pass

    def _gathered(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self._backbone.whole_weights(self._dtype, names=self._chosen()):
            for sent in self._sent_names(name):
                yield sent, tensor

    def _chosen(self) -> set[str]:
        used = [weight for weight in self._backbone.weight_list() if not self._is_unused(weight.name)]
        # What was frozen in the meantime has changed since it was last sent.
        self._trained |= {weight.name for weight in used if weight.is_trained}
        return {weight.name for weight in used if not self.trainable_only or weight.name in self._trained}

    def _weights(self, names: set[str] | None = None) -> list[Weight]:
        """What a pass over these parameters, or all, yields, without their values."""
        return [
            (sent, self._dtype or weight.dtype, tuple(weight.shape))
            for weight in self._backbone.weight_list()
            if names is None or weight.name in names
            for sent in self._sent_names(weight.name)
        ]

    def _sent_names(self, name: str) -> list[str]:
        return [name, _HEAD] if name == self._head != _HEAD else [name]

    def _is_unused(self, name: str) -> bool:
        unused = self._backbone.family.unused
        return bool(unused) and name.startswith(unused)
