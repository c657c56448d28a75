"""Does GRPO learn the same through a vLLM server as through the trainer's own model, and at what price?

A fit of configs/grpo.yaml per engine and seed, from the same cold-started checkpoint. Interrupted, the same command
goes on, and counts the time from there on only. The fits are runs/PREFIX-ENGINE-SEED. Needs vLLM.
"""

from __future__ import annotations

import argparse
import time
from math import sqrt
from pathlib import Path
from statistics import fmean, median, stdev
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
NUM_ERRORS = 3
"""Standard errors within which differences are noise. Two would find one in ten pairs of equal engines different."""
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
        "median_sync_seconds": round(median(logged.get("sync/seconds", [0.0])), 3),  # the first one starts the server
        "val_accuracy": round(logged["val/accuracy"][-1], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="at least two")
    parser.add_argument("--start", type=Path, default=Path("runs/sft/hf"), help="the cold-started model")
    parser.add_argument("--prefix", default="grpo_engines", help="of the runs' names; another one starts anew")
    parser.add_argument("--max-steps", type=int, default=30, help="default %(default)s")
    parser.add_argument("--num-problems", type=int, default=600, help="validated on; default %(default)s")
    options = parser.parse_args()
    report("grpo_engines", compare(options), seed=options.seeds[0])


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Trains with both engines and returns the figures."""
    runs = {engine: [run_figures(engine, seed, options) for seed in options.seeds] for engine in ENGINES}
    accuracies = {engine: [run["val_accuracy"] for run in of] for engine, of in runs.items()}
    accuracy = fmean(accuracies["vllm"]) - fmean(accuracies["local"])
    accuracy_error = _error_of_difference([*accuracies.values()], options.num_problems)
    # The same seed draws the same prompts, whichever engine answers.
    rewards = [
        theirs - ours
        for local, vllm in zip(runs["local"], runs["vllm"], strict=True)
        for ours, theirs in zip(local["reward_curve"], vllm["reward_curve"], strict=True)
    ]
    reward_error = stdev(rewards) / sqrt(len(rewards))
    return {
        "seeds": options.seeds,
        "start": str(options.start),
        "steps": options.max_steps,
        **runs,
        "difference_of_accuracy": {"mean": round(accuracy, 4), "standard_error": round(accuracy_error, 4)},
        "difference_of_reward": {"mean": round(fmean(rewards), 4), "standard_error": round(reward_error, 4)},
        "met": abs(accuracy) <= NUM_ERRORS * accuracy_error and abs(fmean(rewards)) <= NUM_ERRORS * reward_error,
    }


def _error_of_difference(accuracies: list[list[float]], num_problems: int) -> float:
    """Standard error of a difference of two means over seeds: their spread, but no less than that of the problems."""
    variances = [max(stdev(of) ** 2, fmean(of) * (1 - fmean(of)) / num_problems) / len(of) for of in accuracies]
    return sqrt(sum(variances))


if __name__ == "__main__":
    main()
