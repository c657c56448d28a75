"""Checkpoint folders in Hugging Face format: which ones are read, and how a new one is written."""

from __future__ import annotations

import copy
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from lightning_r1v3.backbone.gather import weight_list, whole_weights
from lightning_r1v3.backbone.meta import saved_names
from lightning_r1v3.backbone.progress_bars import no_progress_bars

MAX_FILE_BYTES = 4 * 2**30
"""Of a safetensors file of an export."""


def checkpoint_folder(path: str, *, key: str = "backbone.path") -> Path:
    """Returns the folder of a checkpoint.

    Args:
        path: Of the folder.
        key: What the user calls it, for the message.

    Raises:
        ValueError: There is no such folder, no `config.json` in it, or the config asks for remote code.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        found = sorted(p.name for p in folder.iterdir())[:8] if folder.is_dir() else "no such folder"
        raise ValueError(
            f"{key} {path!r}: expected a Hugging Face folder with config.json, found {found}. "
            "Nothing is downloaded: give the path of a local copy, or of an earlier stage's runs/NAME/hf"
        )
    if "auto_map" in json.loads((folder / "config.json").read_text()):
        raise ValueError(
            f"{key} {path!r}: config.json asks for remote code (auto_map), which is never run: use the checkpoint's "
            "transformers-native version (for InternVL the folders whose name ends in -hf)"
        )
    return folder


def load_weights(auto_class: Any, folder: Path, *, dtype: torch.dtype, **options: Any) -> PreTrainedModel:
    """Returns a model with the weights of a folder's safetensors, every tensor of it found there.

    Args:
        auto_class: transformers' class that picks the model's.
        folder: From `checkpoint_folder`.
        dtype: Of all parameters.
        options: Passed on to `from_pretrained`.

    Raises:
        ValueError: There are no safetensors, or they lack tensors of the model.
    """
    if not list(folder.glob("*.safetensors")):
        raise ValueError(f"{folder}: expected *.safetensors (pickled weights are never loaded); convert the checkpoint")
    with no_progress_bars():
        model, report = auto_class.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported, and refused below with the rest
            output_loading_info=True,
            **options,
        )
    missing = sorted(report["missing_keys"]) + [f"{key[0]} (shape)" for key in sorted(report["mismatched_keys"])]
    if missing:
        raise ValueError(f"{folder}: the safetensors lack {len(missing)} of the model's tensors, first {missing[:3]}")
    checked: PreTrainedModel = model
    return checked


def export(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    path: Path,
    *,
    dtype: torch.dtype | None = None,
    is_writer: bool = True,
    fetch: Callable[[str], Tensor] | None = None,
) -> None:
    """Writes a folder that transformers and vLLM load as it is; written aside, then renamed.

    Where the model is sharded all ranks must reach this: it is gathered tensor by tensor, and no process ever holds
    more of it than one file.

    Args:
        model: The model, whole or sharded.
        processor: Its processor.
        path: The folder to make, its parents too; an older export there is replaced.
        dtype: Of the tensors; the parameters' own by default.
        is_writer: Whether this process writes; the others take part in the gathering alone.
        fetch: Gives the whole tensor of a parameter by its name, where the model is on the meta device.
    """
    weights = whole_weights(model, dtype, fetch=fetch)
    if not is_writer:
        for _ in weights:
            pass
        return
    aside, replaced = (path.with_name(path.name + suffix) for suffix in (".partial", ".replaced"))
    for leftover in (aside, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True)
    _write_weights(model, weights, aside, dtype)
    _write_configs(model, aside, dtype)
    with no_progress_bars():
        processor.save_pretrained(aside)
    if path.exists():
        path.rename(replaced)
    aside.rename(path)
    shutil.rmtree(replaced, ignore_errors=True)


def _write_weights(
    model: PreTrainedModel, weights: Iterator[tuple[str, Tensor]], folder: Path, dtype: torch.dtype | None
) -> None:
    """Writes one safetensors file after the other, and the index of several, under the names that transformers uses."""
    names = saved_names(model, [weight.name for weight in weight_list(model)])
    files = _assign_files(model, dtype)
    pending: dict[str, dict[str, Tensor]] = {file: {} for file in files.values()}
    remaining = Counter(files.values())
    for name, tensor in weights:
        file = files[name]
        pending[file][names[name]] = tensor.cpu().contiguous()
        remaining[file] -= 1
        if not remaining[file]:
            save_file(pending.pop(file), folder / file, metadata={"format": "pt"})
    assert not pending, "every parameter is yielded"
    if len(remaining) > 1:
        num_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        index = {
            "metadata": {"total_size": num_bytes},
            "weight_map": {names[name]: file for name, file in sorted(files.items())},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def _assign_files(model: PreTrainedModel, dtype: torch.dtype | None) -> dict[str, str]:
    """The file that each parameter goes to."""
    number, room = 0, 0
    numbers = {}
    for weight in weight_list(model):
        num_bytes = weight.shape.numel() * (dtype or weight.dtype).itemsize
        if num_bytes > room:
            number, room = number + 1, max(num_bytes, MAX_FILE_BYTES)
        room -= num_bytes
        numbers[weight.name] = number
    if number == 1:
        return dict.fromkeys(numbers, "model.safetensors")
    return {name: f"model-{own:05d}-of-{number:05d}.safetensors" for name, own in numbers.items()}


def _write_configs(model: PreTrainedModel, folder: Path, dtype: torch.dtype | None) -> None:
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.dtype = str(dtype or weight_list(model)[0].dtype).removeprefix("torch.")
    config.save_pretrained(folder)
    if model.can_generate() and model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
