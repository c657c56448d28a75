"""Tensors in shards on disk: one safetensors file per process, readable by any other number of processes."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from lightning_r1v3.backbone.shard_slices import is_first_replica, local_slice, overlap, relative

SUFFIX = ".safetensors"
_LAYOUT = "layout"
"""Of a file's metadata: for each tensor the shape of the whole one, and where this part begins in it."""


def file_name(rank: int, world_size: int) -> str:
    """Returns the name of a process's file."""
    return f"shard-{rank:05d}-of-{world_size:05d}{SUFFIX}"


def local_parts(tensors: Mapping[str, Tensor], *, copy: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the parts that this process writes, on the CPU, and where they lie, as the file's metadata.

    Args:
        tensors: All tensors by name, the same names on every process; of those that several processes hold the first
            one writes.
        copy: Copy also what is on the CPU already, since training goes on while it is written.
    """
    parts, layout = {}, {}
    for name, tensor in tensors.items():
        place = local_slice(tensor)
        if not is_first_replica(tensor) or any(span.start >= span.stop for span in place):
            continue
        part = (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()
        parts[name] = part.clone() if copy and part.device.type == "cpu" else part.cpu().contiguous()
        layout[name] = {"shape": list(tensor.shape), "offset": [span.start for span in place]}
    return parts, {_LAYOUT: json.dumps(layout)}


def write_parts(parts: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """Writes a file that appears when it is whole, and on the disk."""
    aside = path.with_name(f"{path.name}.partial")
    save_file(parts, aside, metadata=metadata)
    sync_to_disk(aside)
    aside.rename(path)


def sync_to_disk(path: Path) -> None:
    """Returns when a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


class ShardReader:
    """The tensors of a folder of shards, of which each process reads what it needs."""

    def __init__(self, folder: Path) -> None:
        """Reads the files' headers.

        Args:
            folder: With one file per process that wrote it.

        Raises:
            ValueError: Some of them are missing.
        """
        self.shapes: dict[str, list[int]] = {}
        """Of the whole tensors, by name."""
        self._parts: dict[str, list[tuple[Path, tuple[slice, ...]]]] = defaultdict(list)
        for path in _all_files(folder):
            with safe_open(path, framework="pt") as file:
                for name, layout in json.loads((file.metadata() or {})[_LAYOUT]).items():
                    sizes = file.get_slice(name).get_shape()
                    spans = zip(layout["offset"], sizes, strict=True)
                    self._parts[name].append((path, tuple(slice(start, start + size) for start, size in spans)))
                    self.shapes[name] = layout["shape"]

    @torch.no_grad()
    def fill(self, targets: Mapping[str, Tensor]) -> None:
        """Copies each tensor's part into the target of its name, file after file.

        Raises:
            ValueError: A tensor is missing, or has another shape.
        """
        wrong = [name for name, target in targets.items() if self.shapes.get(name) != list(target.shape)]
        if wrong:
            name = wrong[0]
            raise ValueError(
                f"the checkpoint does not fit the model: {len(wrong)} tensors are missing or of another shape, first "
                f"{name}: expected {list(targets[name].shape)}, got {self.shapes.get(name, 'nothing')}"
            )
        by_file: dict[Path, list[tuple[str, tuple[slice, ...]]]] = defaultdict(list)
        for name in targets:
            for path, place in self._parts[name]:
                by_file[path].append((name, place))
        for path, parts in by_file.items():
            with safe_open(path, framework="pt") as file:
                for name, place in parts:
                    self._copy(file.get_slice(name), place, targets[name])

    def whole(self, name: str) -> Tensor:
        """Returns a whole tensor, in the dtype that it was written in."""
        path, _ = self._parts[name][0]
        with safe_open(path, framework="pt") as file:
            dtype = file.get_slice(name)[tuple(slice(0, 0) for _ in self.shapes[name])].dtype
        tensor = torch.empty(self.shapes[name], dtype=dtype)
        self.fill({name: tensor})
        return tensor

    @staticmethod
    def _copy(stored: object, place: tuple[slice, ...], target: Tensor) -> None:
        wanted = local_slice(target)
        local = target.to_local() if isinstance(target, DTensor) else target
        shared = overlap(wanted, place)
        if shared is not None:
            local[relative(shared, wanted)].copy_(stored[relative(shared, place)])  # type: ignore[index]


def _all_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob(f"*{SUFFIX}"))
    num_written = int(files[0].stem.rpartition("-")[2]) if files else 1  # see `file_name`
    if len(files) != num_written:
        raise ValueError(
            f"checkpoint {folder} is not whole: expected the files of {num_written} processes, got {len(files)}; take "
            "another one"
        )
    return files
