"""Does GRPO learn the same through a vLLM server as through the trainer's own model, and at what price?

A fit of configs/grpo.yaml per engine and seed, from the same cold-started checkpoint. Interrupted, the same command
goes on, and counts the time from there on only. The fits are runs/PREFIX-ENGINE-SEED. Needs vLLM.
"""

from __future__ import annotations

import argparse
import time
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from cli_fits import curves, fit
from report import report

ENGINES: dict[str, dict[str, Any]] = {
    "local": {"class_path": "lightning_r1v3.rollout.local.LocalEngine"},
    "vllm": {
        "class_path": "lightning_r1v3.rollout.vllm_engine.VLLMEngine",
        "init_args": {"servers": {"options": {"max_model_len": 1024}}},
    },
}
MAX_LOGPROB_GAP = 1e-4
STRETCH = 10
"""Steps that a point of the reward's curve is the mean of."""


def run_figures(engine: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Trains with an engine and a seed and returns how it went."""
    overrides = {
        "model.init_args.backbone.path": str(options.start),
        "model.init_args.engine": ENGINES[engine],
        "model.init_args.max_logprob_gap": MAX_LOGPROB_GAP,
        "model.init_args.sampling.seed": seed,
        "model.init_args.evaluation.num_problems": options.num_problems,
        "trainer.max_steps": options.max_steps,
        "trainer.val_check_interval": options.max_steps,
        "seed_everything": seed,
        "data.init_args.seed": seed,
    }
    start = time.perf_counter()
    logged = curves(fit("configs/grpo.yaml", f"{options.prefix}-{engine}-{seed}", overrides))
    reward = logged["train/reward"]
    return {
        "wall_seconds": round(time.perf_counter() - start, 1),
        "reward_curve": [round(fmean(reward[first : first + STRETCH]), 4) for first in range(0, len(reward), STRETCH)],
        "largest_logprob_gap": max(logged["rollout/logprob_gap"]),
        "sync_seconds": round(fmean(logged["sync/seconds"]), 3) if "sync/seconds" in logged else 0.0,
        "val_accuracy": round(logged["val/accuracy"][-1], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--start", type=Path, default=Path("runs/sft/hf"), help="the cold-started model")
    parser.add_argument("--prefix", default="grpo_engines", help="of the runs' names; another one starts anew")
    parser.add_argument("--max-steps", type=int, default=30, help="default %(default)s")
    parser.add_argument("--num-problems", type=int, default=600, help="validated on; default %(default)s")
    options = parser.parse_args()
    runs = {engine: [run_figures(engine, seed, options) for seed in options.seeds] for engine in ENGINES}
    accuracies = {engine: [run["val_accuracy"] for run in of] for engine, of in runs.items()}
    difference = fmean(accuracies["vllm"]) - fmean(accuracies["local"])
    noise = _standard_error([*accuracies.values()], options.num_problems)
    figures = {
        "seeds": options.seeds,
        "start": str(options.start),
        "steps": options.max_steps,
        **runs,
        "difference_of_accuracy": round(difference, 4),
        "standard_error": round(noise, 4),
        "met": abs(difference) <= 2 * noise,
    }
    report("grpo_engines", figures, seed=options.seeds[0])


def _standard_error(accuracies: list[list[float]], num_problems: int) -> float:
    """Of the difference of two means over seeds: their spread, or with one seed that of the problems."""
    variances = [stdev(of) ** 2 / len(of) if len(of) > 1 else of[0] * (1 - of[0]) / num_problems for of in accuracies]
    return sqrt(sum(variances))


if __name__ == "__main__":
    main()
