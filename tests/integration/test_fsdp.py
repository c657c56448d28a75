from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from processes import launch, said
from safetensors.torch import load_file
from sharded_runs import LAST_STEP, content, metric, write_configs

from lightning_r1v3.modules.run_folder import find_checkpoint

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

Fit = Callable[..., list[int]]


@pytest.fixture(scope="module")
def fit(workplace: Path) -> Fit:
    write_configs(workplace)

    def run(stage: str, name: str, *options: str, processes: int, nodes: int = 1, sharded: bool = True) -> list[int]:
        files = [f"{stage}.yaml", *(["fsdp.yaml"] if sharded else [])]
        line = ["fit", *(part for file in files for part in ("-c", file)), f"--name={name}", *options]
        return launch(workplace, line, processes=processes, nodes=nodes)

    return run


@pytest.fixture(scope="module")
def unbroken(fit: Fit, workplace: Path) -> Path:
    """Folder of a run of two processes with checkpoints."""
    assert fit("sft", "sft2", "-c", "checkpoints.yaml", processes=2) == [0, 0], said(workplace)
    return workplace / "runs/sft2"


def signaller(name: str, step: int) -> str:
    init_args = {"signal": name, "step": step}
    return f"--trainer.callbacks+={json.dumps({'class_path': 'stand_ins.Signaller', 'init_args': init_args})}"


def test_two_processes_fine_tune_as_one_does(fit: Fit, unbroken: Path, workplace: Path) -> None:
    assert fit("sft", "sft1", processes=1, sharded=False) == [0], said(workplace)
    for name in ("train/loss", "train/grad_norm", "train/entropy"):
        one, two = metric(workplace / "runs/sft1", name), metric(unbroken, name)
        assert len(one) == LAST_STEP
        assert two == pytest.approx(one, rel=1e-4), name


def test_two_processes_tune_the_connector_as_one_does(fit: Fit, workplace: Path) -> None:
    assert fit("connector", "connector1", processes=1, sharded=False) == [0], said(workplace)
    assert fit("connector", "connector2", processes=2) == [0, 0], said(workplace)
    for name in ("train/loss", "train/grad_norm"):
        one, two = (metric(workplace / f"runs/connector{processes}", name) for processes in (1, 2))
        assert len(one) == LAST_STEP
        assert two == pytest.approx(one, rel=1e-4), name


def test_two_nodes_reinforce_as_one_process_does(fit: Fit, workplace: Path) -> None:
    options = ("--model.engine=stand_ins.Recorder",)
    assert fit("grpo", "grpo1", *options, processes=1, sharded=False) == [0], said(workplace)
    options = ("--model.engine=stand_ins.Replay", "--trainer.strategy.hybrid=true")
    assert fit("grpo", "grpo2", *options, processes=2, nodes=2) == [0, 0], said(workplace)
    for name in ("train/grad_norm", "train/entropy", "rollout/logprob_gap"):
        one, two = (metric(workplace / f"runs/grpo{processes}", name) for processes in (1, 2))
        assert len(one) == LAST_STEP
        assert two == pytest.approx(one, rel=1e-4, abs=1e-6), name


def test_a_killed_run_goes_on_bit_by_bit(fit: Fit, unbroken: Path, workplace: Path) -> None:
    killed = fit("sft", "killed", "-c", "checkpoints.yaml", signaller("SIGKILL", 14), processes=2)
    assert -signal.SIGKILL in killed, said(workplace)
    resumed = fit("sft", "killed", "-c", "checkpoints.yaml", "--ckpt_path=last", processes=2)
    assert resumed == [0, 0], said(workplace)
    ends = [content(folder / "checkpoints/step=18.ckpt") for folder in (unbroken, workplace / "runs/killed")]
    assert len(ends[0]) == 2
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=0)


@pytest.mark.parametrize("processes", [1, 4])
def test_a_checkpoint_of_two_processes_goes_on_with_others(
    fit: Fit, unbroken: Path, workplace: Path, processes: int
) -> None:
    name = f"on{processes}"
    saved = f"--ckpt_path={unbroken}/checkpoints/step=18.ckpt"
    assert fit("sft", name, saved, processes=processes) == [0] * processes, said(workplace)
    losses = metric(workplace / "runs" / name, "train/loss")
    assert losses == pytest.approx(metric(unbroken, "train/loss")[-2:], rel=1e-4)
    states = [load_file(folder / "hf/model.safetensors") for folder in (unbroken, workplace / "runs" / name)]
    torch.testing.assert_close(states[1], states[0], rtol=1e-4, atol=1e-4)


def test_a_preempted_run_saves_and_says_so_in_its_exit_code(fit: Fit, workplace: Path) -> None:
    stopped = fit("sft", "stopped", signaller("SIGTERM", 3), processes=2)
    assert stopped == [143, 143], said(workplace)
    written = list((workplace / "runs/stopped/checkpoints").iterdir())
    assert [path.name for path in written] == ["preempted-step=4.ckpt"]
    assert "asked to stop" in said(workplace)
    assert find_checkpoint("last", workplace / "runs/stopped") == str(written[0])


def test_a_sharded_checkpoint_is_refused_by_another_strategy(fit: Fit, unbroken: Path, workplace: Path) -> None:
    saved = f"--ckpt_path={unbroken}/checkpoints/step=18.ckpt"
    assert fit("sft", "refused", saved, processes=1, sharded=False) == [1]
    assert "is a sharded checkpoint: add -c configs/overlays/fsdp.yaml" in said(workplace)
