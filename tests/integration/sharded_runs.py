"""The runs that the tests of several processes share: their configurations, and what they leave behind."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

LAST_STEP = 20
CHECKPOINTS = {
    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
    "init_args": {"every_n_train_steps": 6, "save_top_k": -1, "filename": "{step}"},
}


def write_configs(workplace: Path) -> None:
    """Writes `sft.yaml`, `grpo.yaml` and `connector.yaml`, and the overlays `fsdp.yaml` and `checkpoints.yaml`."""
    for name, config in _configs(yaml.safe_load((workplace / "run.yaml").read_text())).items():
        (workplace / f"{name}.yaml").write_text(yaml.safe_dump(config))


def metric(run: Path, name: str) -> list[float]:
    rows = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    return [float(row[name]) for row in rows if row[name]]


def content(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors in a folder, by file."""
    return {path.name: load_file(path) for path in folder.glob("*.safetensors")}


def _configs(run: dict[str, Any]) -> dict[str, Any]:
    steps = run["trainer"] | {"max_epochs": -1, "max_steps": LAST_STEP, "callbacks": []}
    backbone = run["model"]["init_args"]["backbone"] | {"random_weights": False}
    settings = run["model"]["init_args"] | {"backbone": backbone}
    rollouts = {"sampling": {"group_size": 4, "max_new_tokens": 12}, "reward": {"class_path": "stand_ins.Arbitrary"}}
    rollouts |= {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.0001}}}
    return {
        "sft": run | {"trainer": steps, "model": run["model"] | {"init_args": settings}},
        "grpo": run | {"trainer": steps, "model": _model("GRPO", settings | rollouts)},
        "connector": run | {"trainer": steps, "model": _model("ConnectorTune", settings)},
        "fsdp": {"trainer": {"strategy": {"class_path": "lightning_r1v3.strategy.VLMFSDPStrategy"}}},
        "checkpoints": {"trainer": {"callbacks": [CHECKPOINTS]}},
    }


def _model(stage: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"class_path": f"lightning_r1v3.modules.{stage}", "init_args": settings}
