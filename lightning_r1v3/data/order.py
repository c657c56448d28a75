"""The order of samples: a pure function of (seed, epoch), the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

INTERLEAVE = -1
"""Stands for the number of a set where the draws of all sets are mixed."""


class SampleOrder:
    """Which sample stands at which position of an epoch, over one or several shard sets.

    An epoch has as many positions as there are samples. Without weights every sample is drawn once. With weights, set s
    is drawn `weight / sum of weights` of the time, and goes through a permutation of its own before a sample repeats:
    epoch e goes on where epoch e - 1 stopped.

    Args:
        sizes: Number of samples of each set.
        weights: One positive weight per set, or None for each in proportion to its size.
        seed: Of the permutations, at least 0.
        shuffle: False for file order, one set after the other.

    Raises:
        ValueError: If sizes and weights do not fit, or a set would never be drawn.
    """

    def __init__(
        self, sizes: Sequence[int], weights: Sequence[float] | None = None, *, seed: int = 0, shuffle: bool = True
    ) -> None:
        if not sizes or min(sizes) < 1:
            raise ValueError(f"expected at least one sample in each set, got sizes {list(sizes)}")
        if weights is not None and (len(weights) != len(sizes) or not all(w > 0 for w in weights)):
            raise ValueError(f"expected {len(sizes)} positive weights, one per shard set, got {list(weights)}")
        if seed < 0:
            raise ValueError(f"seed must be at least 0, not {seed}")
        self.sizes = tuple(sizes)
        self.seed = seed
        self.shuffle = shuffle
        self.draws = self.sizes if weights is None else _apportion(sum(sizes), weights)
        """Positions of an epoch that each set fills."""
        if min(self.draws) == 0:
            raise ValueError(f"weights {list(weights or ())} leave a set without a draw in an epoch: {self.draws}")

    def __len__(self) -> int:
        """Returns the number of positions of an epoch."""
        return sum(self.sizes)

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """Returns int64 `[len]`: at each position the sample's number, the sets counted one after the other."""
        drawn: NDArray[np.int64] = np.concatenate(self.drawn(epoch))
        if not self.shuffle:
            return drawn
        shuffled: NDArray[np.int64] = drawn[_permutation(len(drawn), self.seed, INTERLEAVE, epoch)]
        return shuffled

    def drawn(self, epoch: int) -> list[NDArray[np.int64]]:
        """Returns what each set gives to an epoch, int64 `[draws]` each, in the order in which it is drawn."""
        starts = np.cumsum([0, *self.sizes[:-1]])
        return [start + self._draw(number, epoch) for number, start in enumerate(starts)]

    def _draw(self, number: int, epoch: int) -> NDArray[np.int64]:
        size, draws = self.sizes[number], self.draws[number]
        stream = np.arange(epoch * draws, (epoch + 1) * draws, dtype=np.int64)
        passes, positions = np.divmod(stream, size)
        if not self.shuffle:
            return positions
        permutations = {p: _permutation(size, self.seed, number, p) for p in range(passes[0], passes[-1] + 1)}
        return np.concatenate([order[positions[passes == p]] for p, order in permutations.items()])


def _apportion(total: int, weights: Sequence[float]) -> tuple[int, ...]:
    """Returns whole numbers in proportion to the weights that sum to the total (largest remainders)."""
    shares = np.asarray(weights) / sum(weights) * total
    counts = np.floor(shares).astype(np.int64)
    largest_first = np.argsort(counts - shares, kind="stable")
    counts[largest_first[: total - counts.sum()]] += 1
    return tuple(counts.tolist())


def random_bits(size: int, seed: int, number: int, epoch: int) -> NDArray[np.uint64]:
    """Returns raw Philox bits for a set and an epoch: no numpy release changes them, unlike `Generator`'s methods.

    Args:
        size: How many.
        seed: At least 0.
        number: Of the set, or `INTERLEAVE`.
        epoch: At least 0.
    """
    bits: NDArray[np.uint64] = np.random.Philox(np.random.SeedSequence([seed, number - INTERLEAVE, epoch])).random_raw(
        size
    )
    return bits


def _permutation(size: int, seed: int, number: int, epoch: int) -> NDArray[np.int64]:
    return np.argsort(random_bits(size, seed, number, epoch), kind="stable")
