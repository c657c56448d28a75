"""Sharded checkpoints: a folder with a safetensors file of each process and the small rest; renamed when whole.

No pickle is read: tensors are safetensors, the rest is loaded with `weights_only`.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from lightning_r1v3.backbone.shard_files import SUFFIX, ShardReader, file_name, local_parts, sync_to_disk, write_parts

REST = "rest.pt"
"""Everything but tensors: loops, callbacks, schedules, and the optimizers' settings."""
ASIDE, REPLACED, REMOVED = ".partial", ".replaced", ".removed"
"""Names of folders that are not whole yet, make room for a newer one, or are not whole any more."""
POLL_S, DEADLINE_S = 0.05, 1800.0
"""How often rank 0 looks for the others' files, and for how long."""
_SETTINGS = "optimizer_settings"


def is_sharded_checkpoint(path: Path) -> bool:
    """Whether this is a checkpoint folder of ours."""
    return (path / REST).is_file()


class Saving:
    """A checkpoint that is being written by a thread of each process."""

    def __init__(self, write: threading.Thread, errors: list[BaseException]) -> None:
        self._thread, self._errors = write, errors

    def wait(self) -> None:
        """Returns when it is whole on disk.

        Raises:
            OSError: It could not be written.
        """
        self._thread.join()
        if self._errors:
            raise OSError("the checkpoint could not be written") from self._errors[0]


def start_saving(
    module: nn.Module, optimizers: Sequence[Optimizer], rest: dict[str, Any], path: Path, *, copy: bool
) -> Saving:
    """Starts writing the state; all ranks must reach this, and wait for one before the next.

    Args:
        module: Its parameters and buffers.
        optimizers: Over its parameters.
        rest: What else the checkpoint holds; only rank 0's is written.
        path: The folder to make. Written aside, on a file system that all processes share.
        copy: Write a copy of the state, since training goes on meanwhile.
    """
    rank, world_size = _rank(), _world_size()
    aside = path.with_name(path.name + ASIDE)
    if rank == 0:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    _barrier()
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    settings = []
    for number, optimizer in enumerate(optimizers):
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in _state_tensors(optimizer, names).items()}
        settings.append(_settings(optimizer, names))
    parts, metadata = local_parts(tensors, copy=copy)
    errors: list[BaseException] = []

    def write() -> None:
        try:
            write_parts(parts, metadata, aside / file_name(rank, world_size))
            if rank == 0:
                torch.save(rest | {_SETTINGS: settings}, aside / REST)
                sync_to_disk(aside / REST)
                _await_files(aside, world_size)
                _put_in_place(aside, path)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=write, name=f"checkpoint {path.name}")
    thread.start()
    return Saving(thread, errors)


def load_checkpoint(module: nn.Module, optimizers: Sequence[Optimizer], path: Path) -> dict[str, Any]:
    """Fills module and optimizers from a folder, written by any number of processes; returns the rest.

    Raises:
        ValueError: It is no such folder, not whole, or does not fit the model.
    """
    reader = load_weights(module, path)
    rest: dict[str, Any] = torch.load(path / REST, map_location="cpu", weights_only=True)
    names = dict(module.named_parameters())
    for number, (optimizer, settings) in enumerate(zip(optimizers, rest.pop(_SETTINGS), strict=False)):
        _restore_optimizer(optimizer, settings, names, f"optimizer.{number}.", reader)
    return rest


def load_weights(module: nn.Module, path: Path) -> ShardReader:
    """Fills a module's parameters and buffers from a folder; returns its reader.

    Raises:
        ValueError: It is no such folder, not whole, or does not fit the model.
    """
    if not is_sharded_checkpoint(path):
        kind = "a checkpoint in one file" if path.is_file() else "no checkpoint"
        raise ValueError(
            f"ckpt_path {str(path)!r} is {kind}: VLMFSDPStrategy resumes from the folders that it writes itself. "
            "Resume with the strategy of the earlier run, or start from its runs/NAME/hf"
        )
    reader = ShardReader(path)
    reader.fill({f"module.{name}": tensor for name, tensor in module.state_dict().items()})
    return reader


def _state_tensors(optimizer: Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    states = {names[id(parameter)]: state for parameter, state in optimizer.state.items()}
    values = {f"{name}.{key}": value for name, state in states.items() for key, value in state.items()}
    tensors = {name: value for name, value in values.items() if value is not None}
    assert all(isinstance(tensor, Tensor) for tensor in tensors.values()), "optimizer state is tensors"
    return tensors


def _settings(optimizer: Optimizer, names: dict[int, str]) -> list[dict[str, Any]]:
    """The parameter groups with the names of their parameters."""
    return [
        {key: value for key, value in group.items() if key != "params"}
        | {"params": [names[id(parameter)] for parameter in group["params"]]}
        for group in optimizer.param_groups
    ]


def _restore_optimizer(
    optimizer: Optimizer,
    settings: list[dict[str, Any]],
    parameters: dict[str, nn.Parameter],
    prefix: str,
    reader: ShardReader,
) -> None:
    saved = [group["params"] for group in settings]
    by_id = {id(parameter): name for name, parameter in parameters.items()}
    present = [[by_id[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    if saved != present:
        raise ValueError(
            f"the checkpoint's optimizer has groups of {[len(names) for names in saved]} parameters, this run's of "
            f"{[len(names) for names in present]}: resume with the same backbone.trainable, or start from runs/NAME/hf"
        )
    targets: dict[str, Tensor] = {}
    for key in (key for key in reader.shapes if key.startswith(prefix)):
        name, _, kind = key.removeprefix(prefix).rpartition(".")
        parameter = parameters[name]
        like = parameter.detach() if reader.shapes[key] == list(parameter.shape) and parameter.dim() else None
        targets[key] = torch.zeros(reader.shapes[key]) if like is None else torch.zeros_like(like)
        optimizer.state[parameter][kind] = targets[key]
    reader.fill(targets)
    for group, loaded in zip(optimizer.param_groups, settings, strict=True):
        group.update({key: value for key, value in loaded.items() if key != "params"})


def _await_files(folder: Path, world_size: int) -> None:
    """Returns when every process has written its file: on the file system, so that training is not held up."""
    deadline = time.monotonic() + DEADLINE_S
    while len(list(folder.glob(f"*{SUFFIX}"))) < world_size:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{folder}: expected the files of {world_size} processes within {DEADLINE_S:.0f} s")
        time.sleep(POLL_S)


def remove_checkpoint(path: Path) -> None:
    """Removes a checkpoint folder, if it is there: renamed first, so that no part of it is ever loaded."""
    removed = path.with_name(path.name + REMOVED)
    shutil.rmtree(removed, ignore_errors=True)
    if path.is_dir():
        path.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)  # what is left goes with the next start


def recover_checkpoints(folder: Path) -> None:
    """Puts those checkpoints back that a killed process had moved out of the way, and clears what it was removing."""
    for removed in folder.glob(f"*{REMOVED}"):
        shutil.rmtree(removed, ignore_errors=True)
    for replaced in folder.glob(f"*{REPLACED}"):
        path = replaced.with_name(replaced.name.removesuffix(REPLACED))
        with suppress(FileNotFoundError):  # another process was first
            if not path.exists():
                replaced.rename(path)


def _put_in_place(aside: Path, path: Path) -> None:
    """Renames the finished folder; whenever this is cut off, a whole one is left: see `recover_checkpoints`."""
    replaced = path.with_name(path.name + REPLACED)
    remove_checkpoint(replaced)
    if path.is_dir():
        path.rename(replaced)
    aside.rename(path)
    remove_checkpoint(replaced)


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def _world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _barrier() -> None:
    if distributed.is_initialized():
        distributed.barrier()
