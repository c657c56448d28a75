"""The cost of a GRPO step over completions per prompt and over prompts: it must grow no faster than linearly.

Each size is a process of its own on the same model and pictures. `per_linear` is the growth over the row before,
relative to that of the size: 1 is linear, below 1 is slower. Memory is the peak above the loaded model.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from grpo_inputs import SEED, Episodes, write_inputs
from grpo_vs_trl import NUM_MEASURED_STEPS, NUM_STEPS, NUM_WARMUP_STEPS, summary
from report import report
from sides import OWN_PYTHON, run_side

COMPLETIONS, PROMPTS = (8, 16, 32, 64), (1, 2, 4, 8)
LARGEST = Episodes(NUM_STEPS, num_prompts=max(PROMPTS), group_size=8, pixels=448)
SERIES = {
    "completions": [replace(LARGEST, num_prompts=2, group_size=size) for size in COMPLETIONS],
    "prompts": [replace(LARGEST, num_prompts=number) for number in PROMPTS],
}
GROWING = ("step", "step_in_processor_time", "generate", "update", "peak_mib")
TOLERANCE = 1.05
"""Of the growth over the whole series: what repeated runs of the same size differ by."""

Table = list[dict[str, Any]]


def measure(folder: Path, episodes: Episodes, threads: int) -> dict[str, Any]:
    """Runs one size and returns its row."""
    figures = run_side(OWN_PYTHON, "own_grpo.py", [folder, json.dumps(asdict(episodes))], threads=threads)
    size = {"prompts": episodes.num_prompts, "completions": episodes.group_size}
    return size | summary(figures)


def with_growth(rows: Table) -> Table:
    """Returns the rows, each but the first with its growth over the one before."""
    growths = [{"per_linear": growth(*pair)} for pair in pairwise(rows)]
    return [row | more for row, more in zip(rows, [{}, *growths], strict=True)]


def growth(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, float]:
    """Returns how much more a row takes than an earlier one, relative to linear growth."""
    linear = _size(later) / _size(earlier)
    return {column: round(later[column] / earlier[column] / linear, 3) for column in GROWING}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="1 on a machine in use")
    threads = parser.parse_args().threads
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_inputs(folder, LARGEST)
        series = {name: [measure(folder, episodes, threads) for episodes in sizes] for name, sizes in SERIES.items()}
    overall = {name: growth(rows[0], rows[-1]) for name, rows in series.items()}
    figures = {
        "growth_over_linear": overall,
        "met": all(whole["step"] <= TOLERANCE for whole in overall.values()),
        "series": {name: with_growth(rows) for name, rows in series.items()},
        "image_tokens": LARGEST.image_tokens,
        "new_tokens": LARGEST.num_new_tokens,
        "steps": {"warmup": NUM_WARMUP_STEPS, "measured": NUM_MEASURED_STEPS},
        "threads": threads,
    }
    report("grpo_step_cost", figures, seed=SEED)


def _size(row: dict[str, Any]) -> int:
    size: int = row["prompts"] * row["completions"]
    return size


if __name__ == "__main__":
    main()
