"""The fused pass against plain `log_softmax`: peak memory and time of log-probability and entropy, there and back.

Both paths run forward and backward through both outputs at the size of a 0.5 B model's output layer. Memory is the peak
of the resident set above the inputs and their gradients, each path in a process of its own; times are of pairs run one
after the other in one process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from report import report
from resident_memory import PeakMemory
from torch import Tensor

from lightning_r1v3.objectives.token_stats import linear_logprob_entropy

SEED = 0
NUM_TOKENS, WIDTH, VOCABULARY = 2048, 896, 151_674
NUM_PAIRS = 4
# The processor's clock stands still while other programs have the cores.
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
MAX_MEMORY_RATIO, MAX_TIME_RATIO = 0.15, 1.25

Pass = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logps = torch.log_softmax(hidden @ weight.T, dim=-1)
    return logps.gather(1, targets[:, None]).squeeze(1), -(logps.exp() * logps).sum(dim=-1)


PATHS: dict[str, Pass] = {"plain": plain, "fused": linear_logprob_entropy}


class Problem:
    """The inputs, and the gradients that come in from the objective."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(SEED)
        self.hidden = torch.randn(NUM_TOKENS, WIDTH, generator=generator).requires_grad_()
        self.weight = (torch.randn(VOCABULARY, WIDTH, generator=generator) / WIDTH**0.5).requires_grad_()
        self.targets = torch.randint(VOCABULARY, (NUM_TOKENS,), generator=generator)
        self.incoming = list(torch.randn(2, NUM_TOKENS, generator=generator))

    def there_and_back(self, path: Pass) -> list[Tensor]:
        """Returns both outputs and both gradients."""
        self.hidden.grad = self.weight.grad = None
        outputs = path(self.hidden, self.weight, self.targets)
        torch.autograd.backward(outputs, self.incoming)
        return [*(output.detach() for output in outputs), self.hidden.grad, self.weight.grad]


def peak_bytes(name: str) -> int:
    """Peak of this process above the inputs and their gradients."""
    problem = Problem()
    memory = PeakMemory()
    memory.start()
    _, _, *gradients = problem.there_and_back(PATHS[name])
    return memory.bytes_above() - sum(gradient.nbytes for gradient in gradients)


def seconds(problem: Problem, name: str) -> dict[str, float]:
    """Time of one path by either clock."""
    starts = {clock: now() for clock, now in CLOCKS.items()}
    problem.there_and_back(PATHS[name])
    return {clock: now() - starts[clock] for clock, now in CLOCKS.items()}


def time_ratios(pairs: list[dict[str, dict[str, float]]], clock: str) -> list[float]:
    return [round(pair["fused"][clock] / pair["plain"][clock], 4) for pair in pairs]


def relative_differences(problem: Problem) -> dict[str, float]:
    """Largest difference of the two paths' outputs and gradients, each relative to the largest entry."""
    names = ("logprobs", "entropy", "grad_hidden", "grad_weight")
    pairs = zip(problem.there_and_back(plain), problem.there_and_back(linear_logprob_entropy), strict=True)
    return {name: float((a - b).abs().max() / a.abs().max()) for name, (a, b) in zip(names, pairs, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak-of", choices=PATHS, help="measure one path's peak memory in this process")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="1 on a machine in use")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak_of:
        print(peak_bytes(arguments.peak_of))
        return
    peaks = {path: int(subprocess.check_output([sys.executable, __file__, "--peak-of", path])) for path in PATHS}
    problem = Problem()
    differences = relative_differences(problem)  # warms both up
    pairs = [{path: seconds(problem, path) for path in PATHS} for _ in range(NUM_PAIRS)]
    memory_ratio = peaks["fused"] / peaks["plain"]
    time_ratio = statistics.median(time_ratios(pairs, "wall"))
    figures = {
        "size": {"tokens": NUM_TOKENS, "width": WIDTH, "vocabulary": VOCABULARY, "dtype": "float32"},
        "memory_ratio": round(memory_ratio, 4),
        "time_ratio": round(time_ratio, 4),
        "peak_mib": {path: round(peak / 2**20) for path, peak in peaks.items()},
        "seconds": {path: [round(pair[path]["wall"], 2) for pair in pairs] for path in PATHS},
        "time_ratios": {clock: time_ratios(pairs, clock) for clock in CLOCKS},
        "relative_differences": differences,
        "threads": arguments.threads,
        "met": memory_ratio <= MAX_MEMORY_RATIO and time_ratio <= MAX_TIME_RATIO,
    }
    report("fused_pass", figures, seed=SEED)


if __name__ == "__main__":
    main()
