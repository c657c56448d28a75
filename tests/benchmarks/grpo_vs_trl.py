"""GRPO against TRL's GRPOTrainer: time and memory of a step on the same model, prompts, pictures and machine.

Both sides run their own trainer with their own generation, each in a process of its own, one after the other and again.
A step is timed from the end of the one before to its own end; `update` is forward, backward and optimizer step. Every
completion has the same number of tokens on both sides. Memory is the peak of the resident set above the loaded model:
gradients, optimizer state and everything that a step needs. Last, our side trains on the completions that TRL drew
first: reward and gradient norm say whether both compute the same step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grpo_inputs import SEED, Episodes, write_inputs
from report import report
from sides import OWN_PYTHON, TRL_PYTHON, run_side

NUM_WARMUP_STEPS, NUM_MEASURED_STEPS = 2, 3
NUM_STEPS = NUM_WARMUP_STEPS + NUM_MEASURED_STEPS
CASES = {
    "large": Episodes(NUM_STEPS, num_prompts=2, group_size=16, pixels=448),
    "small": Episodes(NUM_STEPS, num_prompts=2, group_size=8, pixels=224),
}
TARGETS = {"large": {"step": 4.0, "update": 6.0, "memory": 3.0}, "small": {"step": 2.5}}
"""How many times less of each our side takes."""
MAX_GRADIENT_DIFFERENCE = 1e-3
"""Of the norms, relative: TRL's loss knows nothing of the tokens that neither side draws."""

Figures = dict[str, Any]


def run_case(episodes: Episodes, *, num_rounds: int, threads: int) -> Figures:
    """Measures both sides in turn and compares them."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_inputs(folder, episodes)
        options = [folder, json.dumps(asdict(episodes))]
        drawn = ["--rollouts", folder / "rollouts.json"]
        rounds = []
        for _ in range(num_rounds):
            own = run_side(OWN_PYTHON, "own_grpo.py", options, threads=threads)
            trl = run_side(TRL_PYTHON, "peers/trl_grpo.py", options + drawn, threads=threads)
            rounds.append({"own": own, "trl": trl})
        replayed = run_side(OWN_PYTHON, "own_grpo.py", options + drawn, threads=threads)
    _check_tokens(rounds, episodes)
    return {
        "ratios": {name: round(ratio(rounds, measure), 3) for name, measure in MEASURES.items()},
        "own": [summary(r["own"]) for r in rounds],
        "trl": [summary(r["trl"]) for r in rounds],
        "same_rollouts": {"own": replayed["first"], "trl": rounds[-1]["trl"]["first"]},
        "image_tokens": episodes.image_tokens,
        "episodes": asdict(episodes),
        "trl_version": rounds[0]["trl"]["versions"]["trl"],
    }


def step_seconds(figures: Figures, clock: str = "ends") -> float:
    """Returns the mean time of a step after the warm-up, by the wall's clock or the processor's."""
    ends = figures[clock][NUM_WARMUP_STEPS - 1 :]
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def phase_seconds(figures: Figures, phase: str) -> float:
    """Returns the mean time of a phase after the warm-up."""
    return statistics.mean(phases[phase] for phases in figures["phases"][NUM_WARMUP_STEPS:])


MEASURES: dict[str, Callable[[Figures], float]] = {
    "step": step_seconds,
    "generate": lambda figures: phase_seconds(figures, "generate"),
    "update": lambda figures: phase_seconds(figures, "update"),
    "memory": lambda figures: figures["peak_bytes"],
    "step_in_processor_time": lambda figures: step_seconds(figures, "cpu_ends"),
}


def ratio(rounds: list[dict[str, Figures]], measure: Callable[[Figures], float]) -> float:
    """Returns the mean over the rounds of the peer's figure over ours."""
    return statistics.mean(measure(r["trl"]) / measure(r["own"]) for r in rounds)


def summary(figures: Figures) -> Figures:
    """Returns what a run of one side measured."""
    seconds = {name: round(measure(figures), 3) for name, measure in MEASURES.items() if name != "memory"}
    return seconds | {"peak_mib": round(figures["peak_bytes"] / 2**20)}


def gradient_difference(case: Figures) -> float:
    """Returns how far the norms of both sides' first gradients are apart, on the same completions."""
    own, trl = (case["same_rollouts"][side]["grad_norm"] for side in ("own", "trl"))
    return float(abs(own / trl - 1))


def met(name: str, case: Figures) -> bool:
    """Whether a case reaches its targets, in a comparison of like with like."""
    same = gradient_difference(case) <= MAX_GRADIENT_DIFFERENCE
    return same and all(case["ratios"][measure] >= target for measure, target in TARGETS[name].items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of either side; 1 on a machine in use")
    parser.add_argument("--rounds", type=int, default=2, help="of both sides in turn")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    cases = {name: run_case(CASES[name], num_rounds=options.rounds, threads=options.threads) for name in options.cases}
    (trl_version,) = {case.pop("trl_version") for case in cases.values()}
    figures = {
        "ratios": {name: case["ratios"] for name, case in cases.items()},
        "targets": {name: TARGETS[name] for name in cases},
        "met": all(met(name, case) for name, case in cases.items()),
        "gradient_norm_difference": {name: gradient_difference(case) for name, case in cases.items()},
        "threads": options.threads,
        "steps": {"warmup": NUM_WARMUP_STEPS, "measured": NUM_MEASURED_STEPS, "rounds": options.rounds},
        "cases": cases,
    }
    report("grpo_vs_trl", figures, seed=SEED, versions={"trl": trl_version})


def _check_tokens(rounds: list[dict[str, Figures]], episodes: Episodes) -> None:
    expected = [episodes.num_prompts * episodes.group_size * episodes.num_new_tokens] * episodes.num_steps
    for figures in (figures for r in rounds for figures in r.values()):
        if figures["num_tokens"] != expected:
            raise ValueError(f"expected {expected} completion tokens a step, got {figures['num_tokens']}")


if __name__ == "__main__":
    main()
