"""Where a benchmark's figures go: one JSON line on the screen, and the same with its circumstances in results/."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "lightning")


def report(name: str, figures: dict[str, Any], *, seed: int, versions: dict[str, str] | None = None) -> None:
    """Prints the figures and writes them to results/NAME.json with versions, hardware, seed and command."""
    circumstances = {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "seed": seed,
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES} | (versions or {}),
        "hardware": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        },
        # What else the machine had to do: above the number of cores, times are not to be trusted.
        "load_average_at_end": [round(load, 2) for load in os.getloadavg()],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"benchmark": name, **figures, **circumstances}, indent=2) + "\n")
    print(json.dumps({"benchmark": name, **figures}), flush=True)


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
