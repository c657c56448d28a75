"""The data that travels between the rooms of the package.

Everything here is frozen, holds no behaviour beyond moving to a device, and imports nothing of ours.
Shapes: `S` sequences, `T` tokens of a packed row, `N` completion tokens, `B` completions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Sample:
    """One problem as read from a shard, before any tokenizer or processor saw it."""

    id: str
    """Unique within its shard set."""
    question: str
    """Text with exactly one `<image>` per image, in place."""
    images: tuple[Image, ...]
    """Decoded pictures, mode RGB; empty for a text-only sample."""
    answer: str
    """The gold answer; with `choices`, the letter of the right one (`A` is the first)."""
    choices: tuple[str, ...] | None = None
    """Texts of the options in order, or None for a fill-in question."""
    response: str | None = None
    """The completion to imitate (SFT), without the opening `<think>` when the prompt opens it."""
    domain: str = ""
    """Subject of the question, e.g. `mathematics`."""
    difficulty: str = ""
    """`normal`, `hard`, or the source's own scale."""
    source: str = ""
    """Where the sample came from."""


@dataclass(frozen=True)
class Example:
    """A sample as token ids and pixels, ready to be packed."""

    sample: Sample
    """The problem itself; its pictures are kept for rollouts."""
    prompt_ids: Tensor
    """int64 `[prompt tokens]`, image placeholders expanded."""
    completion_ids: Tensor
    """int64 `[completion tokens]` with the end-of-turn token; empty when the sample has no response."""
    vision: dict[str, Tensor] = field(default_factory=dict)
    """What the image processor made (`pixel_values`, `image_grid_thw`, …); empty for a text-only sample."""
    think_opened: bool = False
    """True when the prompt ends in `<think>`, so that the completion starts inside it."""

    @property
    def num_tokens(self) -> int:
        """Length of prompt and completion together."""
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True)
class ExampleBatch:
    """One optimizer batch of one rank, with its place in the data."""

    examples: tuple[Example, ...]
    """The rank's samples; may be empty when all of them were dropped."""
    epoch: int = 0
    """Pass over the data that the batch belongs to, from 0."""
    cursor: int = 0
    """Samples of this epoch consumed by all ranks together once this batch is trained."""
    upcoming: tuple[Example, ...] = ()
    """The rank's samples of the epoch's next batch; none behind the last."""


@dataclass(frozen=True)
class Segment:
    """A run of tokens in a packed row that attends to itself, causally, and to at most one earlier segment."""

    start: int
    """Index of its first token in the row."""
    length: int
    """Number of its tokens."""
    prefix: int | None = None
    """Index of the segment whose tokens it continues (a group's prompt), or None."""


@dataclass(frozen=True)
class TokenBatch:
    """Sequences packed into one row without padding, and the tokens to be scored in it."""

    token_ids: Tensor
    """int64 `[T]`."""
    segments: tuple[Segment, ...]
    """The row's segments in order; together they cover it."""
    predictors: Tensor
    """int64 `[N]`: index in the row of the token whose hidden state predicts target n."""
    targets: Tensor
    """int64 `[N]`: token ids to be scored, completion after completion."""
    completion_lengths: Tensor
    """int64 `[B]`, summing to N: number of targets of each completion."""
    vision: dict[str, Tensor] = field(default_factory=dict)
    """Vision inputs of all pictures, in the order in which their tokens stand in the row."""

    def to(self, device: torch.device | str) -> TokenBatch:
        """Returns the batch with every tensor on `device`."""
        return replace(
            self,
            token_ids=self.token_ids.to(device, non_blocking=True),
            predictors=self.predictors.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            completion_lengths=self.completion_lengths.to(device, non_blocking=True),
            vision={name: tensor.to(device, non_blocking=True) for name, tensor in self.vision.items()},
        )


@dataclass(frozen=True)
class TokenStats:
    """What the fused pass returns for each scored token."""

    logprobs: Tensor
    """float32 `[N]`, nats: log-probability of each target, at most 0."""
    entropy: Tensor
    """float32 `[N]`, nats, in `[0, log V]`: entropy of the distribution that target n is drawn from."""


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn."""

    group_size: int = 1
    """Completions per prompt."""
    temperature: float = 1.0
    """Divisor of the logits, above 0 (paper, section 4: 1.0)."""
    top_p: float = 1.0
    """Smallest probability mass to draw from, in (0, 1]."""
    max_new_tokens: int = 1024
    """Longest completion; one that reaches it without ending is truncated."""
    banned_strings: tuple[str, ...] = ()
    """Tokens that hold one of these are never drawn (the paper's NoWait mode, 6.2: `Wait`, `Alternatively`, `Hmm`)."""
    seed: int = 0
    """With the step and the prompt's id it fixes every draw."""

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: A number is out of its range.
        """
        if self.group_size < 1 or self.max_new_tokens < 1:
            raise ValueError(
                f"expected group_size and max_new_tokens >= 1, got {self.group_size}, {self.max_new_tokens}"
            )
        if not self.temperature > 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"expected temperature > 0 and top_p in (0, 1], got {self.temperature}, {self.top_p}; "
                "for near-greedy decoding use a small temperature such as 0.01"
            )


FINISH_STOP, FINISH_LENGTH = "stop", "length"


@dataclass(frozen=True)
class RolloutBatch:
    """Completions of some prompts, prompt-major: those of prompt p are rows `[p·G, (p + 1)·G)`."""

    token_ids: Tensor
    """int64 `[P·G, T]`, right-padded with 0; the end-of-turn token included where it was drawn."""
    logprobs: Tensor
    """float32 `[P·G, T]`, nats: of each sampled token under the distribution that it was drawn from."""
    mask: Tensor
    """bool `[P·G, T]`: True on completion tokens."""
    finish_reason: tuple[str, ...]
    """Per completion: `stop` (it ended its turn) or `length` (truncated)."""
    policy_version: int = 0
    """Optimizer steps of the weights that drew it."""


@dataclass(frozen=True)
class SyncReport:
    """What it took to give an engine the trainer's present weights."""

    num_bytes: int = 0
    """Bytes sent; 0 where the engine reads the trainer's own weights."""
    seconds: float = 0.0
    """Wall time for which it held the trainer; an engine may take longer, and answers later then."""
