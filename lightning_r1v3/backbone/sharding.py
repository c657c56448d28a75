"""The sharding plan: which parameters FSDP2 gathers together, and how they are kept and computed.

Each vision block, each module of the connector and each decoder layer is a unit; what is left (embeddings, output
layer, final norms) belongs to the root, the backbone itself. A unit's parameters are whole on a process only while it
runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.utils._pytree import register_dataclass

from lightning_r1v3.backbone.families import Family, ModuleGroup
from lightning_r1v3.types import TokenStats

# FSDP2 looks for tensors in the root's output through pytrees; unregistered, the root would miss its backward pass.
register_dataclass(TokenStats)


@dataclass(frozen=True)
class ShardingUnit:
    """A module whose parameters are gathered, and freed again, together."""

    name: str
    """Path of the module in the model."""
    group: ModuleGroup
    """Module group that it belongs to."""
    parameters: tuple[str, ...]
    """Names of its parameters in the model."""


@dataclass(frozen=True)
class ShardingPlan:
    """Where every parameter of a model belongs."""

    units: tuple[ShardingUnit, ...]
    """Vision blocks, connector and decoder layers, in the model's order; none holds another."""
    root: tuple[str, ...]
    """Names of the parameters left, gathered by the root."""


@dataclass(frozen=True)
class Sharding:
    """How a backbone is sharded."""

    mesh: DeviceMesh
    """One dimension: sharded over all processes. Two, (replicate, shard): sharded inside, replicated across."""
    device: torch.device
    """Of this process."""
    compute_dtype: torch.dtype = torch.float32
    """Of gathered parameters and activations; the shards and the optimizer keep the backbone's dtype."""
    reduce_dtype: torch.dtype = torch.float32
    """In which gradients are added up over the processes."""
    reshard_after_forward: bool = True
    """Free a unit's parameters after its forward pass and gather them again in the backward pass."""
    cpu_offload: bool = False
    """Keep shards, gradients and optimizer state in the CPU's memory."""
    compile_blocks: bool = False
    """Compile vision blocks and decoder layers, one by one."""
    max_gathered_bytes: int = sys.maxsize
    """Largest model, in the compute dtype, of which `Backbone.gathered` makes a whole copy on each process."""

    @property
    def storage_device(self) -> torch.device:
        """Where the shards are kept."""
        return torch.device("cpu") if self.cpu_offload else self.device


def sharding_plan(model: nn.Module, family: Family) -> ShardingPlan:
    """Returns the plan of a model; every parameter is in it once, a tied one under its first name."""
    modules = _unit_modules(model, family)
    members: dict[str, list[str]] = {name: [] for name in modules}
    root: list[str] = []
    for parameter, _ in model.named_parameters():
        owner = next((path for path in _parents(parameter) if path in members), None)
        (root if owner is None else members[owner]).append(parameter)
    units = (ShardingUnit(name, family.group_of(f"{name}."), tuple(own)) for name, own in members.items() if own)
    return ShardingPlan(tuple(units), tuple(root))


def shard(root: nn.Module, model: nn.Module, family: Family, sharding: Sharding) -> None:
    """Turns all parameters into DTensors of which each process holds its part.

    Args:
        root: The backbone, whose forward is the root's.
        model: The model inside it, on the meta device or whole on each process.
        family: The model's.
        sharding: How.
    """
    options = {
        "mesh": sharding.mesh,
        "mp_policy": MixedPrecisionPolicy(param_dtype=sharding.compute_dtype, reduce_dtype=sharding.reduce_dtype),
        "offload_policy": CPUOffloadPolicy() if sharding.cpu_offload else OffloadPolicy(),
    }
    for unit in sharding_plan(model, family).units:
        module = model.get_submodule(unit.name)
        if sharding.compile_blocks and unit.group != "connector":
            module.compile()
        fully_shard(module, reshard_after_forward=sharding.reshard_after_forward, **options)  # type: ignore[call-overload]
    fully_shard(root, reshard_after_forward=False, **options)  # type: ignore[call-overload]


def _unit_modules(model: nn.Module, family: Family) -> list[str]:
    """Blocks are what module lists hold; the connector's own modules are told by the family's prefixes."""
    connectors = tuple(prefix.removesuffix(".") for prefix in family.connector)
    found: list[str] = []
    for name, module in model.named_modules():
        if any(path in found for path in _parents(name)):
            continue
        if isinstance(module, nn.ModuleList):
            found += [f"{name}.{index}" for index in range(len(module))]
        elif name in connectors:
            found.append(name)
    return found


def _parents(name: str) -> Iterator[str]:
    """The paths above a dotted name, the nearest first."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name
