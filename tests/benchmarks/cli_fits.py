"""Fits of the command line that a benchmark compares: each runs once, and goes on where it was interrupted."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
RUNS = REPOSITORY / "runs"


def fit(config: str, name: str, overrides: Mapping[str, Any]) -> Path:
    """Returns runs/NAME, trained: not again when its model is there, and from its last checkpoint when one is.

    Args:
        config: The stage's file.
        name: Of the run; other overrides need another name.
        overrides: Keys of the command line and their values.
    """
    folder = RUNS / name
    if (folder / "hf/config.json").exists():
        print(f"{name}: trained already", flush=True)
        return folder
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in overrides.items()}
    options = [f"--{key}={text}" for key, text in texts.items()]
    if list(folder.glob("checkpoints/*.ckpt")):
        options += ["--ckpt_path", "last"]
    command = [sys.executable, "-m", "lightning_r1v3", "fit", "-c", config, "--name", name, *options]
    print(f"{name}: {' '.join(command[1:])}", flush=True)
    subprocess.run(command, cwd=REPOSITORY, check=True)
    return folder


def curves(folder: Path) -> dict[str, list[float]]:
    """Returns the logged values of each metric in the order of the steps; of a step that was made twice, the later."""
    values: dict[str, dict[int, float]] = defaultdict(dict)
    with (folder / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            for name, value in row.items():
                if value:
                    values[name][step] = float(value)
    return {name: [of[step] for step in sorted(of)] for name, of in values.items()}
