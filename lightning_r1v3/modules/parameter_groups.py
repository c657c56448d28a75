"""What an optimizer is made from: one parameter group per module group that trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_r1v3.backbone import Backbone, ModuleGroup


def parameter_groups(backbone: Backbone, learning_rates: Mapping[ModuleGroup, float]) -> list[dict[str, Any]]:
    """Returns `params`, `name` and, where it is given, `lr` of each module group; frozen parameters are in none.

    Args:
        backbone: The model.
        learning_rates: Of the groups that have their own.
    """
    groups = []
    for name, named in backbone.named_groups().items():
        parameters = [parameter for _, parameter in named if parameter.requires_grad]
        if parameters:
            rate = {"lr": learning_rates[name]} if name in learning_rates else {}
            groups.append({"params": parameters, "name": name, **rate})
    return groups
