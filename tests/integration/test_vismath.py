from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT.parent / "shared" / "data" / "vismath"


@pytest.mark.integration
@pytest.mark.skipif(not SOURCE.is_dir(), reason=f"the real problems are not at {SOURCE}")
def test_sft_on_real_problems_lowers_the_loss(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    (tmp_path / "data_shards").symlink_to(ROOT / "data_shards")
    for command in (
        [ROOT / "data_shards" / "build_vismath.py", SOURCE, "runs/vismath"],
        [
            "-m",
            "lightning_r1v3",
            "fit",
            "-c",
            ROOT / "configs" / "vismath_sft.yaml",
            "--trainer.max_steps=15",
            "--data.init_args.batch_size=8",
        ],
    ):
        subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, check=True, capture_output=True)
    with (tmp_path / "runs" / "vismath_sft" / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 15
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
