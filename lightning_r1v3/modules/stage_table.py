"""The recipe's table: `python -m lightning_r1v3.modules.stage_table` measures the model of every stage that there is.

A stage is NAME=FOLDER, its exported checkpoint. Accuracies at temperature 1 on normal problems, on hard ones, and on
those of many domains; format rate, length and critical-token entropy over all of them; the time the stage's fit took.
Prints the table, and writes it as CSV and JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import torch

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.data.shard_set import ShardSet
from lightning_r1v3.modules.run_folder import RUNS
from lightning_r1v3.modules.stage_cells import measure
from lightning_r1v3.rewards.mixed import MixedReward
from lightning_r1v3.types import Sample, Sampling

log = logging.getLogger(__name__)

STAGES = {
    "base": Path("data_shards/mini/base"),
    "sft": RUNS / "sft/hf",
    "grpo": RUNS / "grpo/hf",
    "connector_tune": RUNS / "connector_tune/hf",
}
"""The mini world's."""

HARD = "hard"


def read_problems(shards: str, count: int, difficulty: str | None = None) -> list[Sample]:
    """Returns the first problems of some shards, at most `count`, of one difficulty where it is given.

    Raises:
        ValueError: There is none.
    """
    shard_set = ShardSet(shards)
    samples = (sample for number in range(len(shard_set)) if (sample := shard_set[number]) is not None)
    found = list(islice((s for s in samples if difficulty in {None, s.difficulty}), count))
    if not found:
        raise ValueError(f"no problem of difficulty {difficulty!r} in {shards}")
    return found


def training_seconds(folder: Path) -> float | None:
    """Returns the wall time of the fit that exported a folder, from its configuration to its last file; None without.

    Of a resumed fit it is that of the last part.
    """
    config, exported = folder.parent / "config.yaml", folder / "config.json"
    return exported.stat().st_mtime - config.stat().st_mtime if config.exists() else None


def row_of(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measures one stage; returns its row."""
    started = time.monotonic()
    log.info("%s: measuring %s", name, folder)
    problems = {
        "normal": read_problems(options.val, options.num_problems, "normal"),
        "hard": read_problems(options.val, options.num_problems, "hard"),
        "domains": read_problems(options.val_domains, options.num_problems),
    }
    backbone = Backbone.from_config(BackboneConfig(str(folder)), device_type=options.device).to(options.device)
    reward = MixedReward()
    sampling = Sampling(max_new_tokens=options.max_new_tokens, group_size=options.group_size, seed=options.seed)
    try:
        cells = measure(
            backbone, problems, sampling, prompt=PromptFormat(options.system_prompt), reward=reward, name=name
        )
    finally:
        reward.close()
    log.info("%s: measured in %.0f s", name, time.monotonic() - started)
    return {
        "stage": name,
        **{f"{kind}_accuracy": round(accuracy, 4) for kind, accuracy in cells.accuracy.items()},
        "format_rate": round(cells.format_rate, 4),
        "length": round(cells.length, 1),
        "critical_token_entropy": _rounded(cells.critical_token_entropy, 4),
        "training_seconds": _rounded(training_seconds(folder), 1),
    }


def rows_of(stages: dict[str, Path], jobs: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures the stages, `jobs` at a time in processes of their own: small models leave cores idle."""
    if jobs == 1:
        return [row_of(name, folder, options) for name, folder in stages.items()]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_ready, initargs=(threads,)) as pool:
        return list(pool.map(row_of, stages, stages.values(), repeat(options)))


def _ready(num_threads: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(num_threads)


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as aligned columns under their names."""
    lines = [list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        f"{line[0]:<{widths[0]}}  {'  '.join(f'{cell:>{w}}' for cell, w in zip(line[1:], widths[1:], strict=True))}\n"
        for line in lines
    )


def write(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    """Writes OUT.csv, and OUT.json with the settings."""
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    settings = {name: value for name, value in vars(options).items() if name not in {"stages", "out", "jobs"}}
    options.out.with_suffix(".json").write_text(
        json.dumps({"stages": list(rows), "settings": settings}, indent=2) + "\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    present = {name: folder for name, folder in options.stages if (folder / "config.json").exists()}
    for name, folder in options.stages:
        if name not in present:
            log.info("%s: left out, there is no checkpoint in %s", name, folder)
    if not present:
        sys.exit("stage_table: none of the stages has a checkpoint yet")
    jobs = min(options.jobs or (os.cpu_count() or 1 if options.device == "cpu" else 1), len(present))
    rows = rows_of(present, jobs, options)
    write(rows, options)
    sys.stdout.write(f"\n{as_text(rows)}{options.out}.csv, {options.out}.json\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lightning_r1v3.modules.stage_table", description=__doc__)
    parser.add_argument("stages", nargs="*", type=_stage, default=list(STAGES.items()), help="NAME=FOLDER …")
    parser.add_argument("--num-problems", type=int, default=200, help="of each kind; default %(default)s")
    parser.add_argument("--group-size", type=int, default=1, help="completions of each problem; default %(default)s")
    parser.add_argument("--val", default="data_shards/mini/val-*.tar", help="normal and hard problems")
    parser.add_argument("--val-domains", default="data_shards/mini/val_domains-*.tar", help="problems of many domains")
    parser.add_argument("--system-prompt", help="default: none")
    parser.add_argument("--max-new-tokens", type=int, default=192, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the draws; default %(default)s")
    parser.add_argument("--device", default="cpu", help="default %(default)s")
    parser.add_argument("--jobs", type=int, help="stages measured at a time; default: one a core, on a GPU one")
    parser.add_argument("--out", type=Path, default=RUNS / "stage_table", help="default %(default)s (.csv, .json)")
    return parser


def _stage(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"expected NAME=FOLDER, got {text!r}")
    return name, Path(folder)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
