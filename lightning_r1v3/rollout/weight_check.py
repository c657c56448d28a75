"""Do the trainer's weights fit the server's model, name by name and shape by shape? Asked before any is sent."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_r1v3.rollout.weight_loaders import weight_loaders_kept


class WeightCheck:
    """Extends vLLM's workers (`--worker-extension-cls`)."""

    model_runner: Any
    model_config: Any
    parallel_config: Any
    finish_weight_update: Callable[[], None]
    _weight_update_active: bool

    def first_weight_difference(self, specs: str) -> dict[str, str]:
        """Returns `difference`: the first one as text, or empty where every weight finds its place and none is missing.

        An update that was begun and not finished is finished: all weights are to follow.

        Args:
            specs: JSON list of `[name, shape, needed]` of all of the trainer's weights. One that is not `needed` may be
                unknown here: no forward pass uses it.
        """
        if self._weight_update_active:  # of a trainer that broke off: vLLM would begin no other
            self.finish_weight_update()
        whole = self.parallel_config.tensor_parallel_size == 1
        model = self.model_runner.get_model()
        difference = first_difference(model, self.model_config, json.loads(specs), compare_sizes=whole)
        return {"difference": difference}


def first_difference(
    model: Any, model_config: Any, specs: Sequence[tuple[str, list[int], bool]], *, compare_sizes: bool = True
) -> str:
    """Returns the first difference between weights to come and a vLLM model; empty if there is none.

    Nothing is loaded: the model's own `load_weights` says where each name goes.

    Args:
        model: With `load_weights` in vLLM's way.
        model_config: Its config in vLLM.
        specs: Name, shape and whether it is needed, of each weight.
        compare_sizes: Compare numbers of elements too; not where each worker holds a part.
    """
    with _as_before_loading(model, model_config):
        # Tied weights count one by one: vLLM may keep a copy of each in its own layout.
        parameters = dict(model.named_parameters(remove_duplicate=False))
        received: dict[int, int] = defaultdict(int)
        with _noted_instead_of_loaded(parameters.values()) as loaded:
            for name, shape, needed in specs:
                loaded.clear()
                try:
                    model.load_weights([(name, torch.empty(shape, device="meta"))])
                except Exception as error:  # vLLM's loaders raise what they like at an unknown name
                    if needed:
                        reason = str(error).split(". The", maxsplit=1)[0]
                        return f"the trainer has {name} {shape}, which vLLM cannot place: {reason}"
                for parameter, weight in loaded:
                    received[id(parameter)] += weight.numel()
                    if weight.dim() != parameter.dim() or (compare_sizes and weight.numel() > parameter.numel()):
                        theirs = list(parameter.shape)
                        return f"{name} has the shape {list(weight.shape)} in the trainer and {theirs} in vLLM"
        return _missing(model, parameters, received, compare_sizes=compare_sizes)


@contextmanager
def _noted_instead_of_loaded(parameters: Iterable[Any]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Has the parameters note what would be loaded into them."""
    parameters = list(parameters)
    noted: list[tuple[Tensor, Tensor]] = []
    with weight_loaders_kept(parameters):
        for parameter in parameters:
            parameter.weight_loader = lambda parameter, weight, *_, **__: noted.append((parameter, weight))
        yield noted


def _missing(
    model: nn.Module, parameters: Mapping[str, Tensor], received: Mapping[int, int], *, compare_sizes: bool
) -> str:
    """The first parameter that would not be filled; rows beyond the vocabulary are padding."""
    padding = {id(module.weight): _padding_elements(module) for module in model.modules() if _is_vocabulary(module)}
    for name, parameter in parameters.items():
        expected = parameter.numel() - padding.get(id(parameter), 0)
        got = received[id(parameter)]
        if not got:
            return f"vLLM has {name} {list(parameter.shape)}, for which the trainer has no weight"
        if compare_sizes and got != expected:
            return f"vLLM's {name} {list(parameter.shape)} takes {expected} elements, the trainer's weights have {got}"
    return ""


@contextmanager
def _as_before_loading(model: nn.Module, model_config: Any) -> Iterator[None]:
    """Gives the parameters their first shapes for a while: once loaded, kernels keep them in their own layouts."""
    from vllm.model_executor.model_loader.reload import (  # noqa: PLC0415
        finalize_layerwise_reload,
        initialize_layerwise_reload,
    )

    # Putting back layers that nothing was loaded into is what is meant here, and not worth its warnings.
    warnings = logging.getLogger("vllm.model_executor.model_loader.reload.layerwise")
    with weight_loaders_kept(model.parameters()):  # vLLM leaves its own in some that had none
        initialize_layerwise_reload(model)
        try:
            yield
        finally:
            warnings.disabled = True
            finalize_layerwise_reload(model, model_config)
            warnings.disabled = False


def _is_vocabulary(module: nn.Module) -> bool:
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding  # noqa: PLC0415

    return isinstance(module, VocabParallelEmbedding)


def _padding_elements(module: Any) -> int:
    rows, width = module.weight.shape
    return int((rows - module.org_vocab_size) * width)
