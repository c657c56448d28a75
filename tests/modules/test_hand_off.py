from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lightning_r1v3.modules.hand_off import check_export, hand_off

BEST, LAST = 1.0, 2.0


class Exported(nn.Module):
    """A model that notes which weights it was exported with."""

    is_quantised = False

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(LAST))

    def export(self, folder: Path) -> None:
        self.exported = (folder, self.weight.item())


def trainer(folder: Path, *, monitor: str | None, best: bool = True) -> Any:
    callback = ModelCheckpoint(monitor=monitor)
    if best:
        callback.best_model_path = str(folder / "best.ckpt")
        torch.save({"state_dict": {"backbone.weight": torch.tensor(BEST)}}, callback.best_model_path)
    return SimpleNamespace(
        log_dir=str(folder), fast_dev_run=False, is_global_zero=True, checkpoint_callbacks=[callback], strategy=None
    )


@pytest.mark.parametrize(
    ("export", "monitor", "best", "weight"),
    [
        ("auto", "val/accuracy", True, BEST),
        ("auto", None, True, LAST),
        ("auto", "val/accuracy", False, LAST),
        ("best", "val/accuracy", True, BEST),
        ("last", "val/accuracy", True, LAST),
    ],
)
def test_the_weights_asked_for_are_exported(
    tmp_path: Path, export: Any, monitor: str | None, best: bool, weight: float
) -> None:
    model = Exported()
    hand_off(model, trainer(tmp_path, monitor=monitor, best=best), export)
    assert model.exported == (tmp_path / "hf", weight)


def test_best_without_a_monitored_metric_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a ModelCheckpoint callback with `monitor`"):
        check_export("best", trainer(tmp_path, monitor=None))


def test_a_dry_run_exports_nothing(tmp_path: Path) -> None:
    model, run = Exported(), trainer(tmp_path, monitor=None)
    run.fast_dev_run = 1
    hand_off(model, run, "last")
    assert not hasattr(model, "exported")
