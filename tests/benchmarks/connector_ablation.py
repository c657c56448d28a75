"""What to tune after RL (the paper's Table 2): the connector, with the language model, or everything.

Each arm is a fit of configs/connector_tune.yaml per seed, from the same checkpoint. Model and baseline answer the same
problems, which no shard holds: normal ones of the four sciences, and those of all 20 domains. Interrupted, the same
command goes on. The fits are runs/PREFIX-ARM-SEED.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from cli_fits import REPOSITORY, RUNS, fit
from report import report

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.data.mini import DOMAINS, generate
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.modules.stage_cells import measure
from lightning_r1v3.rewards.mixed import MixedReward
from lightning_r1v3.types import Sample, Sampling

ARMS = {
    "connector": ["connector"],
    "connector_llm": ["connector", "language_model"],
    "connector_vit_llm": ["vision_tower", "connector", "language_model"],
}
PROBLEM_SEED = 80
"""Unlike those of the shipped shards."""
MAX_NEW_TOKENS = 192
MAX_FALL = 0.03
"""Of the accuracy on normal problems, that connector tuning may cost."""


def problems(count: int) -> dict[str, list[Sample]]:
    """Returns unseen problems of the sciences and of all domains."""
    return {
        "normal": list(generate("val", count, PROBLEM_SEED)),
        "domains": list(generate("test", count, PROBLEM_SEED, domains=tuple(DOMAINS))),
    }


def cells(model: Path, kept: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Returns what a model can do, measured once and kept in a file."""
    settings = {"model": str(model), "num_problems": options.num_problems, "samples": options.samples}
    if kept.exists() and (found := json.loads(kept.read_text()))["settings"] == settings:
        return found["cells"]  # type: ignore[no-any-return]
    reward = MixedReward()
    sampling = Sampling(group_size=options.samples, max_new_tokens=MAX_NEW_TOKENS)
    backbone = Backbone.from_config(BackboneConfig(str(model)))
    try:
        measured = measure(backbone, problems(options.num_problems), sampling, prompt=PromptFormat(None), reward=reward)
    finally:
        reward.close()
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"settings": settings, "cells": asdict(measured)}))
    return asdict(measured)


def arm_cells(arm: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Trains an arm with a seed and returns what its model can do."""
    overrides: dict[str, Any] = {
        "model.init_args.backbone.path": str(options.start),
        "model.init_args.backbone.trainable": ARMS[arm],
        "model.init_args.evaluation.num_problems": 0,
        "seed_everything": seed,
        "data.init_args.seed": seed,
    }
    if options.max_steps is not None:
        overrides |= {"trainer.max_steps": options.max_steps, "trainer.val_check_interval": options.max_steps}
    folder = fit("configs/connector_tune.yaml", f"{options.prefix}-{arm}-{seed}", overrides)
    return cells(folder / "hf", folder / "cells.json", options)


def accuracies(measured: list[dict[str, Any]], kind: str) -> list[float]:
    return [round(one["accuracy"][kind], 4) for one in measured]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--start", type=Path, default=Path("runs/grpo/hf"), help="the model after RL")
    parser.add_argument("--num-problems", type=int, default=1000, help="of each kind; default %(default)s")
    parser.add_argument("--samples", type=int, default=4, help="completions of each problem; default %(default)s")
    parser.add_argument("--prefix", default="connector_ablation", help="of the runs' names; another one starts anew")
    parser.add_argument("--max-steps", type=int, help="to try the benchmark out; give another --prefix with it")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="the connector's is always there")
    options = parser.parse_args()
    baseline = cells(REPOSITORY / options.start, RUNS / f"{options.prefix}-baseline/cells.json", options)
    arms = [arm for arm in ARMS if arm == "connector" or arm in options.arms]
    measured = {arm: [arm_cells(arm, seed, options) for seed in options.seeds] for arm in arms}
    tuned = measured["connector"]
    figures = {
        "seeds": options.seeds,
        "start": str(options.start),
        "problems": options.num_problems,
        "samples": options.samples,
        "baseline": baseline["accuracy"],
        **{
            arm: {
                kind: {"mean": round(fmean(accuracies(of, kind)), 4), "seeds": accuracies(of, kind)}
                for kind in ("domains", "normal")
            }
            for arm, of in measured.items()
        },
        "met": all(
            one["accuracy"]["domains"] > baseline["accuracy"]["domains"]
            and one["accuracy"]["normal"] >= baseline["accuracy"]["normal"] - MAX_FALL
            for one in tuned
        ),
    }
    report("connector_ablation", figures, seed=options.seeds[0])


if __name__ == "__main__":
    main()
