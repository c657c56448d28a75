"""`python -m lightning_r1v3.export runs/NAME/checkpoints/STEP.ckpt --out FOLDER`: a checkpoint as Hugging Face has it.

The checkpoint is a file or a folder of shards, of any number of processes; adapters are merged. One tensor is read at a
time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import yaml
from torch import Tensor

from lightning_r1v3.backbone import BackboneConfig
from lightning_r1v3.backbone.adapters import add_adapters
from lightning_r1v3.backbone.checkpoint import export
from lightning_r1v3.backbone.config import Lora
from lightning_r1v3.backbone.families import family_of
from lightning_r1v3.backbone.load import build_on_meta, load_processor
from lightning_r1v3.backbone.shard_files import ShardReader
from lightning_r1v3.backbone.sharded_state import is_sharded_checkpoint

PREFIX = "backbone.model."
"""Of the model's weights in a checkpoint."""
DTYPES = ("float32", "bfloat16", "float16")


def main(args: Sequence[str] | None = None) -> None:
    """Exports a checkpoint."""
    parser = argparse.ArgumentParser("python -m lightning_r1v3.export", description=__doc__, allow_abbrev=False)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--config", type=Path, help="of the run; by default the config.yaml above the checkpoint")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights; by default as they were stored")
    own = parser.parse_args(args)
    try:
        export_checkpoint(own.checkpoint, own.out, own.config, own.dtype)
    except ValueError as error:
        parser.exit(1, f"lightning-r1v3: {error}\n")


def export_checkpoint(checkpoint: Path, out: Path, config: Path | None = None, dtype: str | None = None) -> None:
    """Writes a checkpoint's model as a Hugging Face folder.

    Args:
        checkpoint: A file or a folder of shards.
        out: The folder to make.
        config: Of the run, for the model that it trained; by default `config.yaml` in the run's folder.
        dtype: Of the weights; as they were stored by default.

    Raises:
        ValueError: One of them is not there, or the run's frozen weights are 4-bit ones, which checkpoints leave out.
    """
    backbone = _trained_model(config or checkpoint.absolute().parents[1] / "config.yaml")
    model = build_on_meta(backbone, dtype=torch.float32, vision_attention="sdpa")
    if backbone.lora is not None:
        add_adapters(model, family_of(model.config.model_type), backbone.lora, seed=0)
    fetch = _reader(checkpoint)
    sample = fetch(next(name for name, _ in model.named_parameters()))
    stored: torch.dtype = getattr(torch, dtype) if dtype else sample.dtype
    export(model, load_processor(backbone.path), out, dtype=stored, fetch=fetch)


def _trained_model(config: Path) -> BackboneConfig:
    if not config.is_file():
        raise ValueError(f"no {config}: give the run's config with --config")
    values = yaml.safe_load(config.read_text())["model"]["init_args"]["backbone"]
    lora = Lora(**values["lora"]) if values.get("lora") else None
    if lora is not None and lora.quantize:
        raise ValueError(
            "checkpoints of QLoRA hold the adapters alone: the fit itself exports to runs/NAME/hf; to export again, "
            "resume with --ckpt_path"
        )
    return BackboneConfig(values["path"], lora=lora, overrides=values.get("overrides") or {})


def _reader(checkpoint: Path) -> Callable[[str], Tensor]:
    """What gives a parameter's whole tensor by its name in the model."""
    if is_sharded_checkpoint(checkpoint):
        shards = ShardReader(checkpoint)
        return lambda name: shards.whole(f"module.{PREFIX}{name}")
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint}: no checkpoint there")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    return lambda name: state[f"{PREFIX}{name}"]


if __name__ == "__main__":
    main()
