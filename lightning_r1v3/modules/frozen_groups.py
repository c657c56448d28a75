"""Proof that frozen module groups stay as they were: one hash per group, whatever the sharding."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from lightning_r1v3.backbone import Backbone, ModuleGroup


def fingerprint(backbone: Backbone, group: ModuleGroup) -> str:
    """Returns the SHA-256 of a group's parameters and buffers: names, dtypes, shapes and bits.

    All ranks must reach this: sharded tensors are gathered, one at a time.
    """
    digest = hashlib.sha256()
    for name, tensor in backbone.model.state_dict().items():
        if backbone.family.group_of(name) == group:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bits(tensor).numpy().data)
    return digest.hexdigest()


def _bits(tensor: Tensor) -> Tensor:
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
