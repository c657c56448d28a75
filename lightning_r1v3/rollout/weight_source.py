"""The backbone's weights as a checkpoint holds them, whole tensor after whole tensor."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from vllm.distributed.weight_transfer import ParamMeta, WeightSource

from lightning_r1v3.backbone import Backbone

_HEAD = "lm_head.weight"


class BackboneSource(WeightSource):
    """Every parameter, or only what trains or did. Where parameters are sharded, all ranks must iterate.

    Tied weights are sent under both names: vLLM may keep a copy of each, and would go on with the old head.
    """

    def __init__(self, backbone: Backbone, *, trainable_only: bool) -> None:
        """Stores the choice.

        Args:
            backbone: The policy.
            trainable_only: Leave out what is frozen.
        """
        self._model = backbone.model
        self._unused = backbone.family.unused
        self.trainable_only = trainable_only
        self._trained: set[str] = set()
        self._running: Iterator[tuple[str, Tensor]] = iter(())

    def specs(self) -> list[tuple[str, list[int], bool]]:
        """Returns name, whole shape, and whether a forward pass needs it, of every parameter, frozen ones too."""
        return [(name, list(p.shape), not self._is_unused(name)) for name, p in self._named()]

    @property
    def num_bytes(self) -> int:
        """Bytes of one pass."""
        return sum(parameter.numel() * parameter.element_size() for _, parameter in self._chosen())

    def metadata(self) -> list[ParamMeta]:
        """Returns what a pass yields."""
        return [ParamMeta(name, parameter.dtype, tuple(parameter.shape)) for name, parameter in self._chosen()]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Starts a pass."""
        self._running = self._gathered()
        return self._running

    def finish_pass(self) -> None:
        """Ends a pass that broke off, so that the other ranks, which gather along, come to its end too."""
        for _ in self._running:
            pass

    def _gathered(self) -> Iterator[tuple[str, Tensor]]:
        with torch.no_grad():
            for name, parameter in self._chosen():
                yield name, parameter.full_tensor() if isinstance(parameter, DTensor) else parameter.detach()

    def _chosen(self) -> list[tuple[str, Tensor]]:
        used = [(name, p) for name, p in self._named() if not self._is_unused(name)]
        # What was frozen in the meantime has changed since it was last sent.
        self._trained |= {name for name, p in used if p.requires_grad}
        return [(name, p) for name, p in used if not self.trainable_only or name in self._trained]

    def _named(self) -> list[tuple[str, Tensor]]:
        named: dict[str, Tensor] = dict(self._model.named_parameters())
        named.setdefault(_HEAD, self._model.get_output_embeddings().weight)
        return list(named.items())

    def _is_unused(self, name: str) -> bool:
        return bool(self._unused) and name.startswith(self._unused)
