"""Models too large for one process: built without memory for their parameters, then filled shard by shard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

from lightning_r1v3.backbone.adapters import is_factor, plain_name
from lightning_r1v3.backbone.shard_slices import local_slice


class _EmptyOnMeta(TorchFunctionMode):
    """Gives uninitialised tensors, which is what layers make their weights from, no memory."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty:
            kwargs |= {"device": "meta"}
        return func(*args, **kwargs)


def on_meta(build: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """Returns a model with all parameters on the meta device and all buffers on the CPU, with their values.

    Args:
        build: Makes the model from its config.
    """
    with torch.random.fork_rng(devices=[]), _EmptyOnMeta():
        model = build()
    for names in tied_names(model):
        parameter = model.get_parameter(names[0])
        meta = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        _set_parameter(model, names, meta)
    assert not any(buffer.is_meta for buffer in model.buffers()), "buffers have values that no checkpoint holds"
    return model


def tied_names(model: nn.Module) -> list[list[str]]:
    """Returns the names of each parameter: one, or several where it is tied."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    return list(names.values())


def materialise(root: nn.Module, device: torch.device) -> None:
    """Gives the parameters of a module memory on a device, without values; tied ones stay tied, buffers keep theirs.

    Args:
        root: With its parameters on the meta device, sharded or not.
        device: Where to.
    """
    ties, buffers = tied_names(root), {name: buffer.to(device) for name, buffer in root.named_buffers()}
    root.to_empty(device=device)
    for names in ties:
        _set_parameter(root, names, root.get_parameter(names[0]))
    for name, buffer in buffers.items():
        owner, _, attribute = name.rpartition(".")
        root.get_submodule(owner)._buffers[attribute] = buffer


@torch.no_grad()
def load_shards(model: PreTrainedModel, folder: Path) -> None:
    """Fills a model's parameters from a folder's safetensors; of each tensor only this process's part is read.

    Args:
        model: Materialised, sharded or not.
        folder: In Hugging Face format.

    Raises:
        ValueError: There are no safetensors, or they lack tensors of the model.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder}: expected *.safetensors (pickled weights are never loaded); convert the checkpoint")
    found: dict[str, str] = {}
    parameters = {plain_name(name): tensor for name, tensor in model.named_parameters(remove_duplicate=False)}
    rename = _renaming(model, parameters)
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (not a mapping)
                name = rename(key)
                if name in parameters and _fill(parameters[name], tensors.get_slice(key)):
                    found[name] = key
    plain = [[plain_name(name) for name in names] for names in tied_names(model) if not is_factor(names[0])]
    missing = [names[0] for names in plain if not found.keys() & set(names)]
    if missing:
        raise ValueError(f"{folder}: the safetensors lack {len(missing)} of the model's tensors, first {missing[:3]}")


def saved_names(model: PreTrainedModel, names: Sequence[str]) -> dict[str, str]:
    """Returns the names of parameters in a checkpoint of transformers, by their names in the model."""
    from transformers.core_model_loading import revert_weight_conversion  # noqa: PLC0415 (beside its one use)

    marks = {name: torch.empty(0) for name in names}
    by_mark = {id(mark): name for name, mark in marks.items()}
    return {by_mark[id(mark)]: saved for saved, mark in revert_weight_conversion(model, marks).items()}


def _fill(parameter: Tensor, source: Any) -> bool:
    """Copies this process's part of a tensor; False where the shapes differ."""
    if list(source.get_shape()) != list(parameter.shape):
        return False
    part = source[local_slice(parameter)]
    target = parameter.to_local() if isinstance(parameter, DTensor) else parameter
    target.copy_(part)
    return True


def _renaming(model: PreTrainedModel, parameters: dict[str, nn.Parameter]) -> Callable[[str], str]:
    """Transformers' own rule from names in a checkpoint to names in the model; our families rename only."""
    renamings = [rule for rule in get_model_conversion_mapping(model) if isinstance(rule, WeightRenaming)]
    prefix = model.base_model_prefix

    def rename(key: str) -> str:
        name, _ = rename_source_key(key, renamings, [], prefix, parameters)
        if name not in parameters and key in parameters:
            return key
        return name

    return rename


def _set_parameter(model: nn.Module, names: list[str], parameter: nn.Parameter) -> None:
    for name in names:
        owner, _, attribute = name.rpartition(".")
        model.get_submodule(owner)._parameters[attribute] = parameter
