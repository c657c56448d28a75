"""An order in which every domain has the same share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_r1v3.data.order import INTERLEAVE, SampleOrder, random_bits

_BITS = 64
"""Of a raw random number."""


class BalancedOrder:
    """Which sample stands at which position of an epoch, when every domain is drawn equally often and evenly spread.

    A pure function of (seed, epoch). An epoch has as many positions as there are samples, and of D domains each fills
    one in D of them, within one draw; with equal draws so does every stretch `[k D, (k + 1) D)`. Thus each batch is
    balanced too. A domain goes through a permutation of its own before a sample repeats: a large one over several
    epochs, a small one several times in an epoch.

    Args:
        domains: Of each sample.
        seed: Of the permutations, at least 0.

    Raises:
        ValueError: If there is only one domain, or the seed is negative.
    """

    def __init__(self, domains: Sequence[str], *, seed: int = 0) -> None:
        names, which = np.unique(np.asarray(domains), return_inverse=True)
        if len(names) <= 1:
            raise ValueError(f"expected samples of several `domain`s to balance, found {names.tolist()}")
        self._samples = np.argsort(which, kind="stable")  # their numbers, domain after domain
        self._order = SampleOrder(np.bincount(which).tolist(), [1.0] * len(names), seed=seed)

    def __len__(self) -> int:
        """Returns the number of positions of an epoch."""
        return len(self._samples)

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """Returns int64 `[len]`: the number of the sample at each position."""
        jitter = random_bits(len(self), self._order.seed, INTERLEAVE, epoch) * 2.0**-_BITS
        draws = np.asarray(self._order.draws)
        turns = np.concatenate([np.arange(number) for number in draws])
        # Turn i of n falls somewhere in the i-th n-th of the epoch.
        places = (turns + jitter) / np.repeat(draws, draws)
        balanced: NDArray[np.int64] = self._samples[np.concatenate(self._order.drawn(epoch))]
        return balanced[np.argsort(places, kind="stable")]
