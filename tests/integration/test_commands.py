from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.integration

Run = Callable[..., CompletedProcess[str]]
BEST = (
    "{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {monitor: val/loss, save_last: true,"
    " filename: 'loss={val/loss:.4f}', auto_insert_metric_name: false}}"
)
VALIDATED = ("--data.val=[{shards: shards/val-*.tar}]", f"--trainer.callbacks={BEST}")
NOISE = ("Tip", "Warning", "Total length", "pre-optimization", "Traceback")


@pytest.fixture(scope="module")
def fitted(command: Run, workplace: Path) -> CompletedProcess[str]:
    before = set(workplace.iterdir())
    done = command("fit", "--name=fitted", *VALIDATED)
    assert done.returncode == 0, done.stderr
    assert set(workplace.iterdir()) - before <= {workplace / "runs"}
    return done


def predictions(path: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["id"] for line in lines}) == len(lines)
    return {line["id"]: line for line in lines}


def test_a_fit_says_how_far_it_is_and_where_its_results_are(fitted: CompletedProcess[str]) -> None:
    said = fitted.stdout + fitted.stderr
    assert "step 10/10" in said
    assert "val/loss" in said
    assert "results: runs/fitted" in said
    assert not [line for line in said.splitlines() for noise in NOISE if noise in line]


def test_a_dry_run_on_the_hand_off_writes_nothing(fitted: CompletedProcess[str], command: Run, workplace: Path) -> None:
    before = sorted(workplace.rglob("*"))
    again = command("fit", "--config=runs/fitted/config.yaml", "--name=again", "--model.backbone.path=runs/fitted/hf",
                    "--model.backbone.random_weights=false", "--trainer.fast_dev_run=1")  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert sorted(workplace.rglob("*")) == before


def test_a_fit_hands_off_the_weights_of_its_best_checkpoint(fitted: CompletedProcess[str], workplace: Path) -> None:
    best = next((workplace / "runs/fitted/checkpoints").glob("loss=*.ckpt"))
    state = torch.load(best, weights_only=True)["state_dict"]
    exported = load_file(workplace / "runs/fitted/hf/model.safetensors")
    assert len(exported) == len(state)
    sums = sorted(float(tensor.double().sum()) for tensor in state.values())
    assert sorted(float(tensor.double().sum()) for tensor in exported.values()) == sums


def test_the_saved_configuration_makes_the_same_run_and_the_earlier_one_is_kept(
    fitted: CompletedProcess[str], command: Run, workplace: Path
) -> None:
    before = (workplace / "runs/fitted/config.yaml").read_text()
    again = command("fit", "-c", "runs/fitted/config.yaml", "--name=twin")
    assert again.returncode == 0, again.stderr
    once_more = command("fit", "-c", "runs/twin/config.yaml")
    assert "kept the earlier runs/twin as runs/twin.1" in once_more.stderr
    files = [workplace / f"runs/{name}/hf/model.safetensors" for name in ("fitted", "twin", "twin.1")]
    assert len({file.read_bytes() for file in files}) == 1
    assert (workplace / "runs/twin.1/config.yaml").read_text() == before.replace("name: fitted", "name: twin")


def test_a_finished_run_resumes_to_nothing_and_keeps_its_metrics(
    fitted: CompletedProcess[str], command: Run, workplace: Path
) -> None:
    before = (workplace / "runs/fitted/metrics.csv").read_text()
    resumed = command("fit", "--name=fitted", *VALIDATED, "--ckpt_path=last")
    assert resumed.returncode == 0, resumed.stderr
    assert "nothing was left to train" in resumed.stderr
    assert (workplace / "runs/fitted/metrics.csv").read_text() == before
    longer = command("fit", "--name=fitted", *VALIDATED, "--ckpt_path=last", "--trainer.max_epochs=3")
    assert longer.returncode == 0, longer.stderr
    rows = list(csv.DictReader((workplace / "runs/fitted/metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows if row["train/loss"]] == list(range(15))


def test_validate_prints_the_same_metrics_on_any_number_of_processes_and_changes_nothing(
    fitted: CompletedProcess[str], command: Run, workplace: Path
) -> None:
    files = {path: path.stat().st_mtime for path in (workplace / "runs/fitted").rglob("*")}
    said = []
    for devices in (1, 2):
        done = command("validate", "--name=fitted", *VALIDATED, "--ckpt_path=last", f"--trainer.devices={devices}")
        assert done.returncode == 0, done.stderr
        assert "val/loss" in done.stdout
        said.append([line for line in done.stderr.splitlines() if line.startswith("val/accuracy 0, val/accuracy/")])
    assert said[0] == said[1]
    assert len(said[0]) == 1
    assert {path: path.stat().st_mtime for path in (workplace / "runs/fitted").rglob("*")} == files


def test_predict_writes_every_problem_once_whatever_the_number_of_processes(command: Run, workplace: Path) -> None:
    options = ("--data.val=[{shards: shards/val-*.tar}]", "--data.val_batch_size=4")
    for devices in (1, 2):
        done = command("predict", f"--name=predicted{devices}", f"--trainer.devices={devices}", *options)
        assert done.returncode == 0, done.stderr
    one, two = (predictions(workplace / f"runs/predicted{devices}/predictions.jsonl") for devices in (1, 2))
    assert one == two
    assert len(one) == 6
    assert all({"id", "question", "answer", "completion", "correct"} <= line.keys() for line in one.values())
