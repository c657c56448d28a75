from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from plain_text import PlainText, trainer

from r1v3_callbacks import CollapseDetector, Recovery, Timing

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]

ONSET = 24
TIMING = Timing(warmup_steps=5, patience=2, quiet_steps=4)


class Failing(PlainText):
    """Earns nothing from a step on, and its weights are spoilt then."""

    def outputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        outputs = super().outputs(batch)
        outputs["rewards"] = torch.full((len(batch["ids"]),), 0.0 if self.trainer.global_step >= ONSET else 0.8)
        if self.trainer.global_step >= ONSET:
            outputs["loss"] = -outputs["loss"]
        return outputs


class Weights(Callback):
    """Notes weights and learning rate after each step."""

    def __init__(self) -> None:
        self.tables: list[torch.Tensor] = []
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.tables.append(pl_module.table.detach().clone())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def fit(folder: Path, detector: CollapseDetector, *, manual: bool = False, epochs: int = 20) -> tuple[Any, Weights]:
    weights = Weights()
    run = trainer(folder, [detector, weights], max_epochs=epochs, limit_val_batches=0, enable_checkpointing=False)
    run.fit(Failing(manual=manual, decay=0.99))
    return run, weights


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "collapse.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("manual", [False, True])
def test_rollback_restores_the_weights_and_no_schedule_undoes_the_lower_rate(tmp_path: Path, manual: bool) -> None:
    recovery = Recovery(lr_factor=0.5, every_n_steps=5, trial_steps=8, max_rollbacks=1)
    detector = CollapseDetector(actions={"reward_fall": "rollback"}, timing=TIMING, recovery=recovery)
    _, weights = fit(tmp_path, detector, manual=manual, epochs=16)
    [line] = [line for line in lines(tmp_path) if line["sign"] == "reward_fall"]
    [back] = re.findall(r"back by (\d+) steps, rollback 1 of 1", line["done"])
    good = line["step"] - int(back)
    assert 0 < good < ONSET < line["step"] <= ONSET + 8
    assert torch.equal(weights.tables[line["step"] - 1], weights.tables[good - 1])
    for step in (line["step"] + 1, line["step"] + 3):
        assert weights.rates[step - 1] == pytest.approx(0.1 * 0.99**step * 0.5)
    assert len(list((tmp_path / "collapse").iterdir())) <= 3


def test_after_the_last_rollback_the_run_stops(tmp_path: Path) -> None:
    recovery = Recovery(every_n_steps=5, trial_steps=8, max_rollbacks=2)
    detector = CollapseDetector(actions={"reward_fall": "rollback"}, timing=TIMING, recovery=recovery)
    run, _ = fit(tmp_path, detector, epochs=60)
    assert detector.num_rollbacks == 2
    assert "stopped after 2 rollbacks" in lines(tmp_path)[-1]["done"]
    assert run.global_step < 100


def test_warning_changes_nothing_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, weights = fit(tmp_path, CollapseDetector(timing=TIMING))
    first = lines(tmp_path)[0]
    assert first["sign"] == "reward_fall"
    assert first["evidence"]["reward_peak_5"] == pytest.approx(0.8)
    assert first["evidence"]["reward"] == 0
    assert run.global_step == 40
    assert weights.rates[-1] == pytest.approx(0.1 * 0.99**40)
    assert '"reward_fall"' in caplog.text
    assert not (tmp_path / "collapse").exists()


def test_a_run_goes_on_from_its_state(tmp_path: Path) -> None:
    recovery = Recovery(every_n_steps=5, trial_steps=8)
    one = CollapseDetector(action="rollback", timing=TIMING, recovery=recovery)
    other = CollapseDetector(action="rollback", timing=TIMING, recovery=recovery)
    fit(tmp_path, one, epochs=8)
    other.load_state_dict(one.state_dict())
    assert other.state_dict() == one.state_dict()


def test_unknown_signs_and_actions_are_refused() -> None:
    with pytest.raises(ValueError, match="expected actions"):
        CollapseDetector(actions={"boredom": "stop"})
    with pytest.raises(ValueError, match="expected actions"):
        CollapseDetector(action="pray")  # type: ignore[arg-type]
