from __future__ import annotations

import csv
import json
import signal
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from sameness import same

pytestmark = pytest.mark.integration

LAST_STEP = 10
"""Two epochs of five steps."""
LAST = Path("last")
Fit = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def fit(command: Callable[..., CompletedProcess[str]]) -> Fit:
    def run(name: str, *, processes: int, workers: int, kill: int = -1, resume: Path | None = None) -> Any:
        log = f"{name}resumed" if resume == LAST else name
        witness = {"class_path": "witness.Witness", "init_args": {"path": log, "kill_before_step": kill}}
        strategy = ["--trainer.strategy", "ddp"] if processes > 1 else []
        return command(
            "fit",
            f"--name={name}",
            f"--trainer.devices={processes}",
            *strategy,
            f"--data.num_workers={workers}",
            f"--trainer.callbacks+={json.dumps(witness)}",
            *(["--ckpt_path", str(resume)] if resume else []),
        )

    return run


@pytest.fixture(scope="module")
def unbroken(fit: Fit, workplace: Path) -> Callable[[int], dict[str, Any]]:
    @cache
    def state(processes: int) -> dict[str, Any]:
        done = fit(f"unbroken{processes}", processes=processes, workers=0)
        assert done.returncode == 0, done.stderr
        return checkpoint(workplace / f"runs/unbroken{processes}/checkpoints/step={LAST_STEP}.ckpt")

    return state


def checkpoint(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def trained(workplace: Path, log: str, *, up_to: int = LAST_STEP) -> Counter[tuple[int, str]]:
    lines = [line for path in workplace.glob(f"{log}-*.jsonl") for line in path.read_text().splitlines()]
    steps = [json.loads(line) for line in lines]
    return Counter((step["epoch"], key) for step in steps if step["step"] <= up_to for key in step["ids"])


def metric(path: Path, name: str) -> list[float]:
    return [float(row[name]) for row in csv.DictReader(path.read_text().splitlines()) if row[name]]


# Killed before a step: in the first epoch, in its last batch, after it, in the second epoch.
@pytest.mark.parametrize(("processes", "workers", "kill"), [(1, 0, 3), (1, 2, 5), (2, 0, 7), (2, 2, 4)])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    fit: Fit, unbroken: Callable[[int], dict[str, Any]], workplace: Path, processes: int, workers: int, kill: int
) -> None:
    name = f"killed{processes}{workers}"
    killed = fit(name, processes=processes, workers=workers, kill=kill)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = fit(name, processes=processes, workers=workers, resume=LAST)
    assert resumed.returncode == 0, resumed.stderr

    last_saved = kill // 2 * 2
    seen = trained(workplace, name, up_to=last_saved) + trained(workplace, f"{name}resumed")
    assert set(seen.values()) == {1}
    assert len(seen) == 2 * 17
    end = checkpoint(workplace / f"runs/{name}/checkpoints/step={LAST_STEP}.ckpt")
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(end[part], unbroken(processes)[part]), part


@pytest.mark.parametrize(("before", "after", "step"), [(1, 2, 4), (2, 1, 8)])
def test_a_run_resumed_with_other_processes_trains_exactly_the_rest(
    fit: Fit, unbroken: Callable[[int], dict[str, Any]], workplace: Path, before: int, after: int, step: int
) -> None:
    unbroken(before)
    saved = workplace / f"runs/unbroken{before}/checkpoints/step={step}.ckpt"
    resumed = fit(f"from{before}to{after}", processes=after, workers=0, resume=saved)
    assert resumed.returncode == 0, resumed.stderr
    seen = trained(workplace, f"unbroken{before}", up_to=step) + trained(workplace, f"from{before}to{after}")
    assert set(seen.values()) == {1}
    assert len(seen) == 2 * 17


def test_two_processes_train_what_one_trains(unbroken: Callable[[int], dict[str, Any]], workplace: Path) -> None:
    unbroken(1), unbroken(2)
    for name in ("train/loss", "train/grad_norm", "train/entropy", "train/tokens"):
        one, two = (metric(workplace / f"runs/unbroken{processes}/metrics.csv", name) for processes in (1, 2))
        assert len(one) == LAST_STEP
        assert two == pytest.approx(one, rel=1e-5), name
