"""What must train in RL (the paper's section 5.2, Figure 6): all of it, or without vision tower, or without connector.

Each arm is a fit of configs/grpo.yaml per seed, from the same cold-started checkpoint. Interrupted, the same command
goes on. The fits are runs/PREFIX-ARM-SEED.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any

from cli_fits import curves, fit
from report import report

ARMS: dict[str, dict[str, Any]] = {
    "all": {"backbone.trainable": ["vision_tower", "connector", "language_model"]},
    "vision_tower_frozen": {"backbone.trainable": ["connector", "language_model"]},
    "connector_frozen": {"backbone.trainable": ["vision_tower", "language_model"], "allow_frozen_connector": True},
}
STRETCH = 10
"""Steps that a point of the reward's curve is the mean of."""


def arm_figures(arm: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Trains an arm with a seed and returns how it went."""
    overrides: dict[str, Any] = {
        "model.init_args.backbone.path": str(options.start),
        **{f"model.init_args.{key}": value for key, value in ARMS[arm].items()},
        "model.init_args.sampling.seed": seed,
        "seed_everything": seed,
        "data.init_args.seed": seed,
    }
    if options.max_steps is not None:
        overrides |= {"trainer.max_steps": options.max_steps, "trainer.val_check_interval": options.max_steps}
    if options.num_problems is not None:
        overrides["model.init_args.evaluation.num_problems"] = options.num_problems
    logged = curves(fit("configs/grpo.yaml", f"{options.prefix}-{arm}-{seed}", overrides))
    reward = logged["train/reward"]
    curve = [round(fmean(reward[start : start + STRETCH]), 4) for start in range(0, len(reward), STRETCH)]
    return {
        "reward_curve": curve,
        "fall_from_peak": round(max(curve) - curve[-1], 4),
        "largest_grad_norm": round(max(logged["train/grad_norm"]), 3),
        "last_length": round(fmean(logged["train/response_length"][-STRETCH:]), 1),
        "last_format_reward": round(fmean(logged["train/format_reward"][-STRETCH:]), 4),
        "val_accuracy": [round(accuracy, 4) for accuracy in logged.get("val/accuracy", [])],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--start", type=Path, default=Path("runs/sft/hf"), help="the cold-started model")
    parser.add_argument("--prefix", default="rl_ablation", help="of the runs' names; another one starts anew")
    parser.add_argument("--max-steps", type=int, help="instead of the config's; give another --prefix with it")
    parser.add_argument("--num-problems", type=int, help="validated on, instead of the config's")
    options = parser.parse_args()
    figures = {
        "seeds": options.seeds,
        "start": str(options.start),
        **{arm: [arm_figures(arm, seed, options) for seed in options.seeds] for arm in ARMS},
    }
    report("rl_ablation", figures, seed=options.seeds[0])


if __name__ == "__main__":
    main()
