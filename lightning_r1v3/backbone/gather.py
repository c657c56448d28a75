"""Whole weights out of sharded ones, one tensor at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from lightning_r1v3.backbone.adapters import factor_names, is_adapted, is_factor, merged, plain_name, whole_shape
from lightning_r1v3.backbone.meta import materialise, on_meta
from lightning_r1v3.backbone.sharding import Sharding

GIB = 2**30


@dataclass(frozen=True)
class WholeWeight:
    """A parameter as transformers and rollout engines know it: whole, without adapters."""

    name: str
    """In the model."""
    shape: torch.Size
    """Of the whole tensor."""
    dtype: torch.dtype
    """Unless another one is asked for."""
    is_trained: bool
    """Whether it changes in training, itself or through its adapter."""


def weight_list(model: PreTrainedModel) -> list[WholeWeight]:
    """Returns what `whole_weights` yields, in its order."""
    parameters = dict(model.named_parameters())
    return [
        WholeWeight(
            plain_name(name),
            whole_shape(model, name, parameter),
            parameters[factor_names(name)[0]].dtype if is_adapted(name) else parameter.dtype,
            any(parameters[each].requires_grad for each in (name, *(factor_names(name) if is_adapted(name) else ()))),
        )
        for name, parameter in parameters.items()
        if not is_factor(name)
    ]


@torch.no_grad()
def whole_weights(
    model: PreTrainedModel,
    dtype: torch.dtype | None = None,
    *,
    names: Container[str] | None = None,
    fetch: Callable[[str], Tensor] | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Yields the name and the whole tensor of each parameter, adapters merged into it.

    All ranks must take all of them. A tied one comes once, under its first name.

    Args:
        model: Sharded or not.
        dtype: Of the tensors; the parameters' own by default.
        names: Which ones, as `weight_list` names them; all by default.
        fetch: Gives the whole tensor of a parameter by its name; by default it is gathered from all processes.
    """
    parameters = dict(model.named_parameters())

    def whole(name: str) -> Tensor:
        if fetch is not None:
            return fetch(name)
        plain = dtype is None or is_adapted(name) or is_factor(name)  # those are computed with first
        part = parameters[name].detach() if plain else parameters[name].detach().to(dtype)
        return part.full_tensor() if isinstance(part, DTensor) else part

    for name in parameters:
        if is_factor(name) or (names is not None and plain_name(name) not in names):
            continue
        weight = whole(name)
        if is_adapted(name):
            down, up = factor_names(name)
            weight = merged(model, name, weight, (whole(down), whole(up)))
        yield plain_name(name), weight.to(dtype or weight.dtype)


def check_size(model: PreTrainedModel, sharding: Sharding) -> None:
    """Checks that each process may hold the whole model.

    Raises:
        ValueError: It is larger than `max_gathered_bytes`.
    """
    num_bytes = sum(weight.shape.numel() for weight in weight_list(model)) * sharding.compute_dtype.itemsize
    if num_bytes > sharding.max_gathered_bytes:
        raise ValueError(
            f"local rollouts hold the whole model on every process: {num_bytes / GIB:.1f} GiB, more than the "
            f"strategy's max_gathered_gib {sharding.max_gathered_bytes / GIB:g}. Use a rollout server (model.engine), "
            "or raise the limit"
        )


def empty_copy(model: PreTrainedModel, sharding: Sharding) -> PreTrainedModel:
    """Returns the model, whole on this process, in the compute dtype, its parameters without values."""
    config = copy.deepcopy(model.config)
    vision, text = model.config.vision_config, model.get_decoder().config
    copied = on_meta(lambda: type(model)._from_config(config, dtype=sharding.compute_dtype))
    copied.set_attn_implementation(
        {"text_config": text._attn_implementation, "vision_config": vision._attn_implementation}
    )
    materialise(copied, sharding.device)
    return copied


@torch.no_grad()
def copy_weights(weights: Iterable[tuple[str, Tensor]], model: PreTrainedModel) -> None:
    """Copies all weights into a model of the same names."""
    for name, tensor in weights:
        model.get_parameter(name).copy_(tensor)
