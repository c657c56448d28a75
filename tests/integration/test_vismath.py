from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT.parent / "shared" / "data" / "vismath"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not SOURCE.is_dir(), reason=f"the real problems are not at {SOURCE}"),
]

Run = Callable[..., list[dict[str, str]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("vismath")
    (made / "data_shards").symlink_to(ROOT / "data_shards")
    python(made, ROOT / "data_shards" / "build_vismath.py", SOURCE, "runs/vismath")
    return made


def python(folder: Path, *arguments: str | Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def fit(folder: Path) -> Run:
    def run(name: str, *options: str) -> list[dict[str, str]]:
        python(folder, "-m", "lightning_r1v3", "fit", "-c", ROOT / "configs" / f"{name}.yaml", *options)
        return list(csv.DictReader((folder / f"runs/{name}/metrics.csv").read_text().splitlines()))

    return run


def test_sft_on_real_problems_lowers_the_loss(fit: Run) -> None:
    rows = fit("vismath_sft", "--trainer.max_steps=15", "--data.init_args.batch_size=8")
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) == 15
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_grpo_on_real_problems_grades_what_it_draws(fit: Run, folder: Path) -> None:
    rows = fit("vismath_grpo", "--trainer.max_steps=4", "--model.sampling.max_new_tokens=24")
    assert all(math.isfinite(float(row["train/loss"])) and float(row["rollout/logprob_gap"]) < 1e-5 for row in rows)
    assert all(0 <= float(row["train/reward"]) <= 1 and float(row["reward/rule_error"]) == 0 for row in rows)
    lines = [json.loads(line) for line in (folder / "runs/vismath_grpo/rollouts.jsonl").read_text().splitlines()]
    assert len(lines) == 4 * 16
    assert len({line["id"] for line in lines}) == 8
    assert {line["finish_reason"] for line in lines} <= {"stop", "length"}
    assert all(line["reward"] == pytest.approx(0.8 * line["accuracy"] + 0.2 * line["format"]) for line in lines)
