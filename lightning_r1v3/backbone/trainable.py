"""Freezing: which module groups train, and the report of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from lightning_r1v3.backbone.adapters import is_factor
from lightning_r1v3.backbone.families import MODULE_GROUPS, Family, ModuleGroup


@dataclass(frozen=True)
class GroupReport:
    """What trains of one module group."""

    group: ModuleGroup
    """Its name."""
    parameters: int
    """All its parameters."""
    trainable_parameters: int
    """Those that train."""
    tensors: int
    """Its parameter tensors."""
    trainable_tensors: int
    """Those that train."""

    def __str__(self) -> str:
        return (
            f"{self.group:<14} {self.trainable_parameters:>12,} of {self.parameters:>12,} parameters train "
            f"({self.trainable_tensors} of {self.tensors} tensors)"
        )


def freeze_all_but(
    model: nn.Module, family: Family, trainable: Sequence[ModuleGroup], *, adapted: Sequence[ModuleGroup] = ()
) -> None:
    """Sets `requires_grad` of every parameter: True in the groups named, False elsewhere and where nothing is used.

    The towers run with gradients enabled all the same, since a trainable connector may stand inside one.

    Args:
        model: With its adapters.
        family: The model's.
        trainable: Groups that train.
        adapted: Groups of which only the adapters train.
    """
    for name, parameter in model.named_parameters():
        group = family.group_of(name)
        used = not name.startswith(family.unused) if family.unused else True
        parameter.requires_grad_(used and group in trainable and (group not in adapted or is_factor(name)))


def group_parameters(model: nn.Module, family: Family) -> dict[ModuleGroup, list[tuple[str, nn.Parameter]]]:
    """Returns names and parameters by module group, in the model's order; a tied one counts once."""
    groups: dict[ModuleGroup, list[tuple[str, nn.Parameter]]] = {group: [] for group in MODULE_GROUPS}
    for name, parameter in model.named_parameters():
        groups[family.group_of(name)].append((name, parameter))
    return groups


def trainable_report(model: nn.Module, family: Family) -> list[GroupReport]:
    """Returns what trains, group by group."""
    return list(_reports(model, family))


def _reports(model: nn.Module, family: Family) -> Iterator[GroupReport]:
    for group, named in group_parameters(model, family).items():
        trained = [parameter for _, parameter in named if parameter.requires_grad]
        yield GroupReport(
            group=group,
            parameters=sum(parameter.numel() for _, parameter in named),
            trainable_parameters=sum(parameter.numel() for parameter in trained),
            tensors=len(named),
            trainable_tensors=len(trained),
        )
