from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
import yaml
from sameness import same

pytestmark = pytest.mark.integration

# A reward of the user's own, that dies while it grades an episode.
REWARD = """
import os, signal
from collections.abc import Sequence
import torch
from lightning_r1v3.rewards.reward import RewardBatch
from lightning_r1v3.types import Sample

class PaysForOnes:
    def __init__(self, kill_at_call: int = 0):
        self.calls, self.kill_at_call = 0, kill_at_call

    def score(self, completions: Sequence[str], samples: Sequence[Sample], *, think_opened: bool) -> RewardBatch:
        self.calls += 1
        if self.calls == self.kill_at_call:
            os.killpg(0, signal.SIGKILL)
        share = torch.tensor([text.count("1") / max(len(text), 1) for text in completions])
        return RewardBatch(share, share, share, ("ok",) * len(share))

    def close(self) -> None:
        pass
"""
STEPS = 4
Fit = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def fit(command: Callable[..., CompletedProcess[str]], workplace: Path) -> Fit:
    (workplace / "ones.py").write_text(REWARD)
    config = yaml.safe_load((workplace / "run.yaml").read_text())
    settings = config["model"]["init_args"]
    settings |= {"sampling": {"group_size": 3, "max_new_tokens": 10}, "schedule": {"kind": "constant"}}
    config["model"]["class_path"] = "lightning_r1v3.modules.GRPO"
    config["trainer"] |= {"max_epochs": -1, "max_steps": STEPS}
    (workplace / "grpo.yaml").write_text(yaml.safe_dump(config))

    def run(name: str, *options: str, processes: int = 1, kill_at_call: int = 0) -> Any:
        reward = {"class_path": "ones.PaysForOnes", "init_args": {"kill_at_call": kill_at_call}}
        strategy = ["--trainer.strategy=ddp"] if processes > 1 else []
        done = command(
            "fit",
            "-c=grpo.yaml",
            f"--name={name}",
            f"--trainer.devices={processes}",
            f"--model.reward={json.dumps(reward)}",
            *strategy,
            *options,
        )
        assert done.returncode == (-signal.SIGKILL if kill_at_call else 0), done.stderr
        end = workplace / f"runs/{name}/checkpoints/step={STEPS}.ckpt"
        return torch.load(end, weights_only=True) if end.exists() else None

    return run


@pytest.fixture(scope="module")
def unbroken(fit: Fit) -> dict[str, Any]:
    return fit("whole")


def test_a_run_killed_inside_an_episode_goes_on_as_if_nothing_had_happened(fit: Fit, unbroken: dict[str, Any]) -> None:
    assert fit("broken", kill_at_call=4) is None
    resumed = fit("broken", "--ckpt_path=last")
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(resumed[part], unbroken[part]), part


def test_two_processes_train_what_one_trains(fit: Fit, unbroken: dict[str, Any]) -> None:
    two = fit("twice", processes=2)
    for name, one in unbroken["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], one, rtol=1e-4, atol=1e-5)
