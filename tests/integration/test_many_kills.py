from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

NUM_RUNS, MOST_SECONDS = 8, 14.0


def run(workplace: Path, name: str, *options: str, kill_after_s: float | None = None) -> int:
    line = [sys.executable, "-m", "lightning_r1v3", "fit", "-c", "run.yaml", f"--name={name}", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        line, cwd=workplace, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            return process.wait(timeout=kill_after_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()


@pytest.mark.parametrize("seed", range(NUM_RUNS))
def test_a_run_killed_at_any_moment_and_again_ends_with_the_same_weights(workplace: Path, seed: int) -> None:
    moments = random.Random(seed)
    options = (f"--data.num_workers={moments.choice([0, 2])}", f"--trainer.devices={moments.choice([1, 2])}")
    assert run(workplace, f"whole{seed}", *options) == 0
    folder = workplace / f"runs/many{seed}"
    for _ in range(20):
        resume = ["--ckpt_path=last"] if list(folder.glob("checkpoints/*.ckpt")) else []
        if run(workplace, folder.name, *options, *resume, kill_after_s=moments.uniform(4, MOST_SECONDS)) == 0:
            break
    exported = [workplace / f"runs/{name}{seed}/hf/model.safetensors" for name in ("whole", "many")]
    assert exported[0].read_bytes() == exported[1].read_bytes()
