"""The ranking of a run's checkpoints: scores, what is kept, and the table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from r1v3_callbacks.correlation import Correlation, spearman


@dataclass(frozen=True)
class Entry:
    """A checkpoint that was written."""

    step: int
    """Optimizer steps trained."""
    file: str
    """Its name in the folder."""
    score: float
    """Higher is better; NaN ranks last."""
    metrics: dict[str, float]
    """That were known of it."""
    kept: bool = True
    """Whether the file is still there."""


def score(metrics: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Returns the weighted sum of metrics.

    Raises:
        ValueError: A metric is missing; the message lists those that exist.
    """
    if missing := [name for name in weights if name not in metrics]:
        raise ValueError(
            f"checkpoints are scored by {missing}, which nothing has logged; there are {sorted(metrics)}: "
            "change `weights`, or log it"
        )
    return sum(weight * metrics[name] for name, weight in weights.items())


class Ranking:
    """Checkpoints in the order in which they were written, one per step."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Takes up earlier entries."""
        self.entries = list(entries)

    def add(self, entry: Entry) -> None:
        """Adds a checkpoint; one of the same step makes room."""
        self.entries = [old for old in self.entries if old.step != entry.step] + [entry]

    def best(self) -> Entry | None:
        """Returns the kept checkpoint with the highest finite score, the earliest of equals."""
        return next(iter(self._ranked_kept()), None)

    def superfluous(self, top_k: int) -> list[Entry]:
        """Returns the kept checkpoints that are neither among the best `top_k` nor the last one."""
        wanted = {entry.step for entry in [*self._ranked_kept()[:top_k], *self.entries[-1:]]}
        return [entry for entry in self.entries if entry.kept and entry.step not in wanted]

    def mark(self, present: Iterable[str]) -> None:
        """Notes which files are there."""
        files = set(present)
        self.entries = [replace(entry, kept=entry.file in files) for entry in self.entries]

    def correlation(self, one: str, other: str) -> Correlation:
        """Returns the rank correlation of two metrics over the checkpoints that have both."""
        both = [entry.metrics for entry in self.entries if one in entry.metrics and other in entry.metrics]
        return spearman([metrics[one] for metrics in both], [metrics[other] for metrics in both])

    def table(self, entropy: str, accuracy: str) -> str:
        """Returns the CSV text, best first, with the correlation of the two metrics over all rows in each row."""
        found = self.correlation(entropy, accuracy)
        names = sorted({name for entry in self.entries for name in entry.metrics})
        correlation = {
            "spearman": found.value,
            "spearman_low": found.low,
            "spearman_high": found.high,
            "spearman_n": found.num_points,
        }
        text = io.StringIO()
        columns = ["rank", "step", "score", *names, "file", "kept", *correlation]
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        for rank, entry in enumerate(sorted(self.entries, key=_order), start=1):
            row = {"rank": rank, "step": entry.step, "score": entry.score, "file": entry.file, "kept": int(entry.kept)}
            writer.writerow(row | entry.metrics | correlation)
        return text.getvalue()

    def state_dict(self) -> list[dict[str, Any]]:
        """Returns the entries as dicts."""
        return [dict(vars(entry)) for entry in self.entries]

    def _ranked_kept(self) -> list[Entry]:
        return sorted((entry for entry in self.entries if entry.kept and math.isfinite(entry.score)), key=_order)


def _order(entry: Entry) -> tuple[bool, float, int]:
    finite = math.isfinite(entry.score)
    return not finite, -entry.score if finite else 0.0, entry.step
