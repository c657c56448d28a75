"""What a stage's model can do: accuracy on several kinds of problems, and how it reasons."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.data.preprocess import Preprocessor
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.modules.completions import Completion, complete
from lightning_r1v3.modules.critical_tokens import critical_entropies
from lightning_r1v3.rewards.reward import RewardFunction
from lightning_r1v3.rollout.local import LocalEngine
from lightning_r1v3.types import Example, Sample, Sampling

log = logging.getLogger(__name__)

MAX_TOKENS_PER_ROW = 4096
"""Of the rows in which completions are scored again for their entropy."""


@dataclass(frozen=True)
class StageCells:
    """One row of the table, without the stage's name."""

    accuracy: dict[str, float]
    """Of each set of problems: mean accuracy, in [0, 1]."""
    format_rate: float
    """Share of all completions of the wanted form."""
    length: float
    """Mean tokens of all completions."""
    critical_token_entropy: float | None
    """Mean over all starts of reasoning moves, nats; None where there is none."""


def measure(
    backbone: Backbone,
    problems: Mapping[str, Sequence[Sample]],
    sampling: Sampling,
    *,
    prompt: PromptFormat,
    reward: RewardFunction,
    name: str = "",
) -> StageCells:
    """Generates completions of every problem and grades them.

    Args:
        backbone: The stage's model.
        problems: By name of their set, at least one in each.
        sampling: How to draw.
        prompt: The wording around a question.
        reward: What grades.
        name: Of the stage, for the log.

    Raises:
        ValueError: No problem of a set can be used.
    """
    preprocessor = Preprocessor(backbone.processor, prompt)
    engine = LocalEngine()
    engine.sync(backbone)
    graded: dict[str, list[Completion]] = {}
    for kind, samples in problems.items():
        prompts = [example for sample in samples if (example := preprocessor(sample)) is not None]
        if not prompts:
            raise ValueError(f"expected at least one usable problem of {kind}, got {len(samples)}, all of them dropped")
        graded[kind] = list(complete(engine, reward, backbone.processor.tokenizer, prompts, sampling))
        log.info("%s: %.3f %s accuracy on %d completions", name, _accuracy(graded[kind]), kind, len(graded[kind]))
    completions = [completion for some in graded.values() for completion in some]
    entropies = critical_entropies(
        backbone,
        list(_completed(preprocessor, completions)),
        temperature=sampling.temperature,
        max_tokens=MAX_TOKENS_PER_ROW,
        blank=preprocessor.blank,
    )
    return StageCells(
        accuracy={kind: _accuracy(some) for kind, some in graded.items()},
        format_rate=fmean(completion.format for completion in completions),
        length=fmean(completion.num_tokens for completion in completions),
        critical_token_entropy=float(entropies.mean()) if len(entropies) else None,
    )


def _accuracy(completions: Sequence[Completion]) -> float:
    return fmean(completion.accuracy for completion in completions)


def _completed(preprocessor: Preprocessor, completions: Sequence[Completion]) -> Iterator[Example]:
    """The prompts with their completions, tokenised anew from the text."""
    for completion in completions:
        example = preprocessor(replace(completion.sample, response=completion.text))
        if example is not None:
            yield example
