"""One validation run: loss on the reference responses, accuracy and format rate of generated completions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from lightning import Trainer
from torch import Tensor
from torchmetrics import SumMetric

from lightning_r1v3.modules.completions import Completion, complete
from lightning_r1v3.modules.evaluation import Evaluation
from lightning_r1v3.modules.ranks import gather_across_ranks
from lightning_r1v3.rewards.reward import RewardFunction
from lightning_r1v3.rollout.engine import RolloutEngine
from lightning_r1v3.types import Example, TokenStats

log = logging.getLogger(__name__)


class Validation:
    """What a validation run has counted so far on this rank."""

    def __init__(
        self, settings: Evaluation, engine: RolloutEngine, reward: RewardFunction, tokenizer: Any, trainer: Trainer
    ) -> None:
        """Starts at nothing.

        Args:
            settings: How many problems, and how to draw.
            engine: What generates, synced.
            reward: What grades.
            tokenizer: The model's.
            trainer: For the ranks.
        """
        self.settings = settings
        self.trainer = trainer
        self._complete = partial(complete, engine, reward, tokenizer)
        self._sums: dict[str, tuple[SumMetric, SumMetric]] = {}
        # Rank r reads the problems r, r + world size, …: these are its share of the first `num_problems`.
        self._num_left = len(range(trainer.global_rank, settings.num_problems, trainer.world_size))
        self._num_shown = 0

    def add_loss(self, examples: Sequence[Example], stats: TokenStats) -> None:
        """Adds the negative log-probabilities of reference responses.

        Args:
            examples: With their responses.
            stats: Of all their completion tokens, in order.
        """
        lengths = [len(example.completion_ids) for example in examples]
        for example, logprobs in zip(examples, stats.logprobs.split(lengths), strict=True):
            for name in ("val/loss", f"val/loss/{example.sample.domain}"):
                self._add(name, -logprobs.sum(), len(logprobs))

    def add_completions(self, examples: Sequence[Example]) -> None:
        """Generates for the first of these problems, as many as are left to do, and grades the completions."""
        prompts = list(examples[: self._num_left])
        self._num_left -= len(prompts)
        for completion in self._complete(prompts, self.settings.sampling):
            self._add("val/accuracy", completion.accuracy)
            self._add(f"val/accuracy/{completion.sample.domain}", completion.accuracy)
            self._add("val/format_reward", completion.format)
            self._add("val/response_length", completion.num_tokens)
            self._show(completion)

    def metrics(self) -> dict[str, float]:
        """Returns the means over all ranks, the same on each; all ranks must reach this.

        `val/loss` is missing where no sample has a response, the others where nothing was generated.
        """
        names = sorted({name for names in gather_across_ranks(list(self._sums), self.trainer) for name in names})
        for name in names:
            self._add(name, 0.0, 0)  # a rank may have none of a domain's problems
        return {name: float(total.compute() / count.compute()) for name, (total, count) in sorted(self._sums.items())}

    def _add(self, name: str, value: Tensor | float, count: int = 1) -> None:
        if name not in self._sums:
            # A diverged model's loss is NaN and must be seen: torchmetrics would leave it out.
            total, number = (SumMetric(nan_strategy="disable").to(self.trainer.strategy.root_device) for _ in range(2))
            self._sums[name] = total, number
        total, number = self._sums[name]
        total.update(value)
        number.update(count)

    def _show(self, completion: Completion) -> None:
        if self._num_shown >= self.settings.num_shown or not self.trainer.is_global_zero:
            return
        self._num_shown += 1
        verdict = "right" if completion.accuracy else "wrong"
        sample, step = completion.sample, self.trainer.global_step
        log.info("step %d, %s (answer %s, %s):\n%s", step, sample.id, sample.answer, verdict, completion.text)
