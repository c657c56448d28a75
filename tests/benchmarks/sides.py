"""The sides of a comparison, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_r1v3.torchvision_repair import child_environment

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
OWN_PYTHON = Path(sys.executable)
TRL_PYTHON = REPOSITORY / ".venv-trl/bin/python"


def run_side(python: Path, script: str, options: Sequence[object], *, threads: int) -> dict[str, Any]:
    """Runs a script of this folder and returns the JSON object that it prints last."""
    # A peer's environment has torchvision beside a CPU torch too, and not this package.
    paths = [child_environment()["PYTHONPATH"], str(REPOSITORY), str(HERE)]
    settings = {
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
    }
    process = subprocess.run(
        [str(python), str(HERE / script), *map(str, options)],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return figures
