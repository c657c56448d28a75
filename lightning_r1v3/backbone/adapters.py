"""LoRA and QLoRA through peft and bitsandbytes: small trainable factors beside frozen linear layers, 4-bit or not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_r1v3.backbone.config import Lora
from lightning_r1v3.backbone.families import Family, ModuleGroup
from lightning_r1v3.backbone.shard_slices import local_slice
from lightning_r1v3.backbone.sharding import sharding_plan

ADAPTER = "default"
"""peft's name of the one adapter."""
_BASE, _FACTOR = ".base_layer", ".lora_"
LINEAR_WEIGHT_DIMENSIONS = 2


def add_adapters(
    model: nn.Module, family: Family, lora: Lora, *, seed: int, device_type: Literal["cpu", "cuda"] | str = "cpu"
) -> None:
    """Puts LoRA factors beside all linear layers in the blocks of the groups that `lora` names.

    They begin as no change: B is zero, A is random.

    Args:
        model: Whole, or on the meta device; then `initialise_adapters` is due once it has memory.
        family: The model's.
        lora: Rank, groups, and whether the layers' own weights become 4-bit.
        seed: Of A.
        device_type: Where 4-bit weights are made.

    Raises:
        ValueError: peft or bitsandbytes is not installed.
    """
    _require("peft", "lora")
    from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 (an optional dependency)

    targets = list(_linear_names(model, family, lora.groups))
    if lora.quantize:
        _quantise(model, targets, device_type)
    settings = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, bias="none"
    )
    inject_adapter_in_model(settings, model, adapter_name=ADAPTER)
    if not any(parameter.is_meta for parameter in model.parameters()):
        initialise_adapters(model, seed)


def check_adapters(lora: Lora, trainable: Sequence[ModuleGroup], *, sharded: bool) -> None:
    """Checks that the adapters train, and that the adapted weights can be sharded.

    Raises:
        ValueError: A group with adapters does not train, or 4-bit weights are to be sharded.
    """
    if frozen := [group for group in lora.groups if group not in trainable]:
        raise ValueError(f"backbone.lora.groups names {frozen}, but only {list(trainable)} train: leave them out")
    if lora.quantize and sharded:
        raise ValueError(
            "backbone.lora.quantize does not go with VLMFSDPStrategy: 4-bit weights are made from whole tensors. Leave "
            "quantize out (the strategy shards the frozen weights), or train with trainer.strategy: auto or ddp"
        )


@torch.no_grad()
def initialise_adapters(model: nn.Module, seed: int) -> None:
    """Draws the factors, the same ones on any number of processes."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".lora_A." in name:
            bound = 1 / math.sqrt(parameter.shape[1])  # that of a linear layer's own weights
            drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
            _local(parameter).copy_(drawn[local_slice(parameter)])
        elif ".lora_B." in name:
            _local(parameter).zero_()


def is_factor(parameter: str) -> bool:
    """Whether a parameter of this name is a LoRA factor."""
    return _FACTOR in parameter


def plain_name(parameter: str) -> str:
    """Returns the parameter's name in the model without adapters."""
    return parameter.replace(_BASE, "")


def is_adapted(parameter: str) -> bool:
    """Whether a parameter of this name is a weight beside which there are factors."""
    return parameter.endswith(f"{_BASE}.weight")


def factor_names(parameter: str) -> tuple[str, str]:
    """Returns the names of A and B beside an adapted weight."""
    layer = parameter.removesuffix(f"{_BASE}.weight")
    return f"{layer}.lora_A.{ADAPTER}.weight", f"{layer}.lora_B.{ADAPTER}.weight"


def merged(model: nn.Module, parameter: str, weight: Tensor, factors: tuple[Tensor, Tensor]) -> Tensor:
    """Returns an adapted weight with its factors multiplied in; a 4-bit one is dequantised first.

    Args:
        model: With the adapters.
        parameter: Name of the weight.
        weight: Its whole tensor.
        factors: A `[rank, in]` and B `[out, rank]`, whole.
    """
    layer: Any = model.get_submodule(parameter.removesuffix(f"{_BASE}.weight"))
    down, up = factors
    change = (up.float() @ down.float()) * layer.scaling[ADAPTER]
    whole: Tensor = (dequantised(layer.base_layer, weight).float() + change).to(down.dtype)
    return whole


def dequantised(layer: nn.Module, weight: Tensor) -> Tensor:
    """Returns a linear layer's weight as numbers, whether it is 4-bit or not."""
    state = getattr(layer.weight, "quant_state", None)
    if state is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit  # noqa: PLC0415 (an optional dependency)

    whole: Tensor = dequantize_4bit(weight, state)
    return whole


def whole_shape(model: nn.Module, parameter: str, stored: Tensor) -> torch.Size:
    """Returns the shape of a parameter as it is exported; a 4-bit one is stored as a flat run of bytes."""
    if not is_adapted(parameter):
        return stored.shape
    layer: Any = model.get_submodule(parameter.removesuffix(".weight"))
    return torch.Size((layer.out_features, layer.in_features))


def _linear_names(model: nn.Module, family: Family, groups: list[ModuleGroup]) -> Iterator[str]:
    for unit in sharding_plan(model, family).units:
        if unit.group in groups:
            for name, module in model.get_submodule(unit.name).named_modules(prefix=unit.name):
                if isinstance(module, nn.Linear):
                    yield name


@torch.no_grad()
def _quantise(model: nn.Module, names: list[str], device_type: str) -> None:
    """Makes the weights of linear layers nf4, block by block of 64 values (QLoRA)."""
    _require("bitsandbytes", "lora.quantize")
    from bitsandbytes.nn.modules import Linear4bit, Params4bit  # noqa: PLC0415 (an optional dependency)

    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear), "only linear layers are named"
        dtype = linear.weight.dtype
        layer: Any = Linear4bit(  # type: ignore[no-untyped-call]
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=dtype,
            quant_type="nf4",
            quant_storage=dtype,
            device="meta",
        )
        weight: Any = Params4bit(
            linear.weight.data, requires_grad=False, quant_type="nf4", quant_storage=dtype, module=layer
        )
        layer.weight = weight.to(device_type)
        layer.support_avx512bf16_for_cpu = False  # it would round the weights once more, at the first evaluation
        layer.bias = linear.bias
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, layer)


def _require(package: str, key: str) -> None:
    if find_spec(package) is None:
        raise ValueError(f"backbone.{key} needs the {package} package: pip install 'lightning-r1v3[{package}]'")


def _local(parameter: Tensor) -> Tensor:
    return parameter.to_local() if isinstance(parameter, torch.distributed.tensor.DTensor) else parameter
