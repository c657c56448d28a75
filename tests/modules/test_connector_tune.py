from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import load_file
from torch import Tensor

from lightning_r1v3.backbone import BackboneConfig
from lightning_r1v3.data.datamodule import ShardDataModule, Source
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.modules import ConnectorTune
from lightning_r1v3.modules.evaluation import Evaluation
from lightning_r1v3.modules.frozen_groups import fingerprint

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]

ROOT = Path(__file__).parents[2]
CHECKPOINT = str(ROOT / "data_shards/mini/base")
CONNECTOR = "multi_modal_projector"
EVALUATION = Evaluation(num_problems=0)


class Watcher(Callback):
    """Notes what training keeps of the frozen groups."""

    def __init__(self) -> None:
        self.graphs: list[bool] = []
        self.with_gradient: set[str] = set()
        self.with_state = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        def note(_module: Any, _inputs: Any, output: Any) -> None:
            self.graphs.append(output.last_hidden_state.requires_grad)

        pl_module.model.model.model.vision_tower.register_forward_hook(note)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.with_gradient |= {name for name, p in pl_module.model.named_parameters() if p.grad is not None}

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.with_state = len(pl_module.optimizers().state_dict()["state"])


class Vandal(Callback):
    """Writes to a frozen weight."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        with torch.no_grad():
            next(pl_module.model.model.model.vision_tower.parameters()).add_(1e-3)


def fit(folder: Path, *callbacks: Callback, trainable: list[Any] | None = None, **trainer: Any) -> dict[str, Tensor]:
    """Trains two steps on the shipped chains of 20 domains; returns the exported weights."""
    module = ConnectorTune(
        backbone=BackboneConfig(CHECKPOINT, trainable=trainable),
        optimizer=partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.1),
        evaluation=EVALUATION,
    )
    data = ShardDataModule(
        CHECKPOINT,
        [Source(str(ROOT / "data_shards/mini/connector-*.tar"))],
        [Source(str(ROOT / "data_shards/mini/val_domains-*.tar"))],
        prompt=PromptFormat(system_prompt=None),
        batch_size=20,
        val_batch_size=20,
        balance_domains=True,
    )
    settings = {"limit_val_batches": 0, "enable_checkpointing": False} | trainer
    Trainer(
        max_steps=2,
        accelerator="cpu",
        devices=1,
        logger=CSVLogger(str(folder), "", ""),
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **settings,
    ).fit(module, data)
    return load_file(folder / "hf/model.safetensors")


@pytest.fixture(scope="module")
def start() -> dict[str, Tensor]:
    return load_file(Path(CHECKPOINT) / "model.safetensors")


def changed(start: dict[str, Tensor], end: dict[str, Tensor]) -> set[str]:
    assert start.keys() == end.keys()
    return {name for name in start if not torch.equal(start[name].float(), end[name])}


def test_only_the_connector_trains_and_the_rest_keeps_nothing(
    tmp_path: Path, start: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher()
    with caplog.at_level("INFO"):
        end = fit(tmp_path, watcher)
    of_connector = {name for name in start if CONNECTOR in name}
    assert changed(start, end) == of_connector
    assert {name.removeprefix("model.model.") for name in watcher.with_gradient} == of_connector
    assert watcher.with_state == len(of_connector)
    assert set(watcher.graphs) == {False}
    assert "vision_tower is bit-identical" in caplog.text
    assert "language_model is bit-identical" in caplog.text


def test_the_list_alone_makes_the_ablation(tmp_path: Path, start: dict[str, Tensor]) -> None:
    moved = changed(start, fit(tmp_path, trainable=["connector", "language_model"]))
    assert moved == {name for name in start if "vision_tower" not in name}


def test_frozen_weights_that_change_are_caught(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="vision_tower was frozen and has changed"):
        fit(tmp_path, Vandal())


def test_loss_is_validated_by_domain(tmp_path: Path) -> None:
    fit(tmp_path, limit_val_batches=1, val_check_interval=2)
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert len([name for name in header if name.startswith("val/loss/")]) == 20


def test_a_resumed_run_is_held_to_its_first_start() -> None:
    module, checkpoint = ConnectorTune(backbone=BackboneConfig(CHECKPOINT)), {}
    module.configure_model()
    module._frozen = {"vision_tower": "before"}
    module.on_save_checkpoint(checkpoint)
    resumed = ConnectorTune(backbone=BackboneConfig(CHECKPOINT))
    resumed.on_load_checkpoint(checkpoint)
    assert resumed._frozen == {"vision_tower": "before"}


def test_a_fingerprint_sees_one_bit_of_its_group(stage: Callable[..., Any]) -> None:
    backbone = stage().model
    groups = ("vision_tower", "connector", "language_model")
    before = {group: fingerprint(backbone, group) for group in groups}
    weight = backbone.named_groups()["connector"][0][1]
    with torch.no_grad():
        weight.view(-1)[0] = weight.view(-1)[0].nextafter(torch.tensor(9.0))
    assert [group for group in groups if fingerprint(backbone, group) != before[group]] == ["connector"]
