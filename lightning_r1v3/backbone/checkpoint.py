"""Checkpoint folders in Hugging Face format: which ones are read, and how a new one is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from lightning_r1v3.backbone.progress_bars import no_progress_bars


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


def export(model: PreTrainedModel, processor: ProcessorMixin, path: Path) -> None:
    """Writes a folder that transformers and vLLM load as it is; written aside, then renamed.

    Args:
        model: The model, whole on this process.
        processor: Its processor.
        path: The folder to make, its parents too; an older export there is replaced.
    """
    aside, replaced = (path.with_name(path.name + suffix) for suffix in (".partial", ".replaced"))
    for leftover in (aside, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True)
    with no_progress_bars():
        model.save_pretrained(aside)
        processor.save_pretrained(aside)
    if path.exists():
        path.rename(replaced)
    aside.rename(path)
    shutil.rmtree(replaced, ignore_errors=True)
