"""`python -m lightning_r1v3.plan -c configs/… --gpus 32 --gpu-memory 141GB`: will it fit, and if not, what to change.

Nothing is loaded but the model's config, which may stand in `model/` beside the run's config; every other option is one
of `lightning-r1v3 fit`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch
from jsonargparse import Namespace
from transformers import PreTrainedModel

from lightning_r1v3.backbone import BackboneConfig
from lightning_r1v3.backbone.adapters import add_adapters, is_adapted
from lightning_r1v3.backbone.config import Lora
from lightning_r1v3.backbone.families import Family, family_of
from lightning_r1v3.backbone.load import build_on_meta
from lightning_r1v3.backbone.memory import Workload, kv_cache_bytes_per_token, training_memory
from lightning_r1v3.backbone.trainable import freeze_all_but, trainable_report
from lightning_r1v3.cli import R1V3CLI

GB = 10**9
NF4_BYTES = 0.57
"""Of a 4-bit weight with its block's scale."""
USABLE = 0.92
"""Of a GPU's memory; the rest goes to the driver, to NCCL and to gaps between tensors."""


class ParsedCLI(R1V3CLI):
    """The command line, parsed; nothing is built or run."""

    def instantiate_classes(self) -> None:
        """Builds nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs nothing."""


def main(args: Sequence[str] | None = None) -> None:
    """Prints the plan of a run."""
    parser = argparse.ArgumentParser("python -m lightning_r1v3.plan", description=__doc__, allow_abbrev=False)
    parser.add_argument("--gpus", type=int, required=True, help="GPUs that train")
    parser.add_argument("--gpu-memory", type=_bytes, required=True, help="of each, e.g. 141GB")
    parser.add_argument("--image-fraction", type=float, default=0.25, help="share of a row's tokens that are pictures")
    parser.add_argument("--sync-rate", type=float, default=25.0, help="GB/s from the trainer to the rollout engine")
    own, rest = parser.parse_known_args(args)
    sys.argv = ["lightning-r1v3"]
    try:
        lines = plan(_with_known_model(ParsedCLI(["fit", *rest]).config["fit"], rest), own)
    except ValueError as error:
        sys.exit(f"lightning-r1v3: {error}")
    print("\n".join(lines))  # noqa: T201 (the plan is the output)


def plan(config: Namespace, machine: argparse.Namespace) -> list[str]:
    """Returns the plan's lines: parameters, memory by cause, the sync, a verdict.

    Args:
        config: Of the run, parsed.
        machine: `gpus`, `gpu_memory` in bytes, `image_fraction`, `sync_rate` in GB/s.

    Raises:
        ValueError: The model's folder has no config.
    """
    settings = config.model.init_args
    backbone = _backbone(config)
    model = build_on_meta(backbone, dtype=torch.float32, vision_attention="sdpa")
    family = family_of(model.config.model_type)
    lora = backbone.lora
    if lora is not None:
        add_adapters(model, family, replace(lora, quantize=None), seed=0)
    freeze_all_but(model, family, backbone.trainable or (), adapted=lora.groups if lora is not None else ())
    work = _workload(config, backbone, machine)
    memory = training_memory(model, family, work)
    if lora is not None and lora.quantize:
        adapted = sum(p.numel() for name, p in model.named_parameters() if is_adapted(name))
        memory["weights"] -= int(adapted * (work.storage_dtype.itemsize - NF4_BYTES))
    lines = [str(group) for group in trainable_report(model, family)]
    lines += [
        f"{sum(p.numel() for p in model.parameters()):,} parameters; over {work.shards} processes; rows of "
        f"{work.row_tokens:,} tokens",
        "",
        "of each GPU:",
    ]
    lines += [f"  {cause:<12} {size / GB:8.1f} GB" for cause, size in memory.items()]
    if "sampling" in settings:
        lines += _rollouts(config, model, family, work, machine)
    return [*lines, "", _verdict(memory, work, machine)]


def _with_known_model(config: Namespace, args: Sequence[str]) -> Namespace:
    """Takes `model/config.json` beside a config file where the checkpoint itself is not here yet."""
    settings = config.model.init_args.backbone
    beside = [Path(arg).parent / "model" for arg in args if (Path(arg).parent / "model/config.json").is_file()]
    if beside and not (Path(settings.path) / "config.json").is_file():
        settings.path = str(beside[-1])
    return config


def _backbone(config: Namespace) -> BackboneConfig:
    module, _, name = config.model.class_path.rpartition(".")
    trains = getattr(import_module(module), name).trains
    values = {key: value for key, value in config.model.init_args.backbone.as_dict().items() if key[0] != "_"}
    values["lora"] = Lora(**values["lora"]) if values["lora"] else None
    return BackboneConfig(**values | {"trainable": values["trainable"] or list(trains)})


def _workload(config: Namespace, backbone: BackboneConfig, machine: argparse.Namespace) -> Workload:
    strategy = config.trainer.strategy
    is_sharded = "VLMFSDPStrategy" in str(strategy)
    hybrid = is_sharded and strategy.init_args.hybrid
    per_node = config.trainer.devices if isinstance(config.trainer.devices, int) else min(8, machine.gpus)
    storage = torch.bfloat16 if backbone.dtype in {"auto", "bfloat16"} else torch.float32
    eight_bit = "8bit" in str(config.model.init_args.optimizer)
    return Workload(
        shards=(per_node if hybrid else machine.gpus) if is_sharded else 1,
        row_tokens=config.model.init_args.max_tokens_per_microbatch,
        image_fraction=machine.image_fraction,
        storage_dtype=storage,
        compute_dtype=torch.bfloat16 if is_sharded else storage,
        optimizer_bytes=2 if eight_bit else 2 * storage.itemsize,
        gradient_checkpointing=backbone.gradient_checkpointing,
    )


def _rollouts(
    config: Namespace, model: PreTrainedModel, family: Family, work: Workload, machine: argparse.Namespace
) -> list[str]:
    """What a rollout engine needs, on GPUs of its own unless it is the trainer's model or colocated."""
    settings = config.model.init_args
    weights = sum(parameter.numel() for parameter in model.parameters()) * work.compute_dtype.itemsize
    per_token = kv_cache_bytes_per_token(model, work.compute_dtype)
    size = settings.sampling.group_size
    longest = max([settings.sampling.max_new_tokens, *(settings.max_new_tokens_at or {}).values()])
    lines = [
        "",
        "rollout engine, over the GPUs of a server:",
        f"  {'weights':<12} {weights / GB:8.1f} GB",
        f"  {'KV cache':<12} {size * longest * per_token / GB:8.1f} GB for a group: {size} x {longest:,} tokens",
        f"sync of all weights: {weights / GB:.1f} GB, {weights / GB / machine.sync_rate:.1f} s at "
        f"{machine.sync_rate:g} GB/s",
    ]
    row = size * longest + (config.data.init_args.max_tokens or 0)
    if row > work.row_tokens:  # a group is never split
        total = sum(training_memory(model, family, replace(work, row_tokens=row)).values())
        lines.append(
            f"a group whose completions all reach {longest:,} tokens is a row of {row:,}: {total / GB:.0f} GB a GPU"
        )
    return lines


def _verdict(memory: dict[str, int], work: Workload, machine: argparse.Namespace) -> str:
    total, room = sum(memory.values()), machine.gpu_memory * USABLE
    said = f"{total / GB:.1f} GB of {room / GB:.1f} GB usable ({USABLE:.0%} of {machine.gpu_memory / GB:.0f} GB)"
    if total <= room:
        return f"it fits: {said}"
    changes = []
    states = total - memory["activations"]
    if work.shards == 1:
        changes.append("shard with -c configs/overlays/fsdp.yaml")
    if not work.gradient_checkpointing:
        changes.append("set backbone.gradient_checkpointing: true")
    if states < room:
        share = max(0.0, (room - states) / memory["activations"])
        changes.append(f"lower max_tokens_per_microbatch to about {int(work.row_tokens * share):,}")
    else:
        changes.append("take more GPUs, hybrid: false, adapters (configs/overlays/lora.yaml), or cpu_offload: true")
    return f"it does not fit: {said}. {'; '.join(changes)}"


def _bytes(text: str) -> float:
    number, unit = text.upper().removesuffix("B"), 1
    for suffix, factor in (("GI", 2**30), ("G", GB)):
        if number.endswith(suffix):
            number, unit = number.removesuffix(suffix), factor
            break
    return float(number) * (unit if unit > 1 else GB)


if __name__ == "__main__":
    main()
