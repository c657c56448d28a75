"""SFT against TRL's SFTTrainer: useful tokens per second on the same model, samples and machine.

Useful tokens are those of prompts and completions, pictures included; padding is not. Both sides run their own trainer
in a process of their own, one after the other and again; a step is timed from the end of the one before to its own end,
reading, decoding and tokenising included. What removing the padding can give is the peer's padded tokens per real one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from report import report
from sft_inputs import BATCH_SIZE, NUM_STEPS, SEED, SHORTEST, SPREAD, write_inputs
from sides import OWN_PYTHON, TRL_PYTHON, run_side

SIDES = {"own": (OWN_PYTHON, "own_sft.py"), "trl": (TRL_PYTHON, "peers/trl_sft.py")}
LEARNING_RATE = 1e-4
NUM_ROUNDS = 2
NUM_WARMUP_STEPS = 2
MIN_SPEEDUP, MIN_SHARE_OF_POSSIBLE = 1.4, 0.85


def run(side: str, folder: Path, threads: int) -> dict[str, Any]:
    """Runs one side and returns what it prints."""
    options = [folder, "--batch-size", BATCH_SIZE, "--learning-rate", LEARNING_RATE]
    return run_side(*SIDES[side], options, threads=threads)


def tokens_per_second(figures: dict[str, Any], clock: str = "ends") -> float:
    """Returns the rate over the steps after the warm-up, by the wall's clock or the processor's."""
    ends, tokens = figures[clock][NUM_WARMUP_STEPS - 1 :], figures["real_tokens"][NUM_WARMUP_STEPS:]
    return sum(tokens) / (ends[-1] - ends[0])


def speedup(rounds: list[dict[str, dict[str, Any]]], clock: str) -> float:
    """Returns the mean over the rounds of our rate over the peer's."""
    return statistics.mean(tokens_per_second(r["own"], clock) / tokens_per_second(r["trl"], clock) for r in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of either side; 1 on a machine in use")
    threads = parser.parse_args().threads
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_inputs(folder)
        rounds = [{side: run(side, folder, threads) for side in SIDES} for _ in range(NUM_ROUNDS)]
    own, trl = rounds[0]["own"], rounds[0]["trl"]
    if own["real_tokens"] != trl["real_tokens"]:
        raise ValueError(
            f"the sides saw different samples: {own['real_tokens']} and {trl['real_tokens']} tokens a step"
        )
    gained = speedup(rounds, "ends")
    measured = slice(NUM_WARMUP_STEPS, None)
    possible = sum(trl["padded_tokens"][measured]) / sum(trl["real_tokens"][measured])
    figures = {
        "speedup": round(gained, 3),
        "possible_speedup": round(possible, 3),
        "share_of_possible": round(gained / possible, 3),
        "speedup_in_processor_time": round(speedup(rounds, "cpu_ends"), 3),
        "tokens_per_second": [{side: round(tokens_per_second(r[side])) for side in SIDES} for r in rounds],
        "threads": threads,
        "batch_size": BATCH_SIZE,
        "steps": {"warmup": NUM_WARMUP_STEPS, "measured": NUM_STEPS - NUM_WARMUP_STEPS, "rounds": NUM_ROUNDS},
        "sample_tokens": [SHORTEST, SPREAD * SHORTEST],
        "largest_loss_difference": max(abs(a - b) for a, b in zip(own["losses"], trl["losses"], strict=True)),
        "met": gained >= max(MIN_SPEEDUP, MIN_SHARE_OF_POSSIBLE * possible),
    }
    report("sft_vs_trl", figures, seed=SEED, versions={"trl": trl["versions"]["trl"]})


if __name__ == "__main__":
    main()
