"""Packing: sequences become rows of one after another, without padding, up to a token budget.

A sequence is a prompt with one completion (fine-tuning), or a prompt with the completions that all continue it (a group
of rollouts): its prompt and its pictures stand in the row once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_r1v3.backbone.vision_inputs import join_vision
from lightning_r1v3.types import Example, Segment, TokenBatch


def pack_examples(
    examples: Sequence[Example], *, max_tokens: int, blank: Example
) -> list[tuple[list[Example], TokenBatch]]:
    """Packs prompts with their completions into as few rows as first-fit decreasing finds.

    Args:
        examples: Prompts with completions, in any order; none gives one row of the blank alone.
        max_tokens: Budget of a row. A longer example gets a row of its own.
        blank: A picture as a prompt, put where a row has no picture of its own, so that the vision tower takes part in
            every forward and backward pass of every rank (one that skips it hangs the others). It has no targets.

    Returns:
        The examples of each row, and the row: at least one.
    """
    rows = assign_rows([example.num_tokens for example in examples], max_tokens=max_tokens) or [[]]
    chosen = [[examples[index] for index in row] for row in rows]
    return [(row, _example_row(row, blank)) for row in chosen]


def pack_groups(
    prompts: Sequence[Example], completions: Sequence[Sequence[Tensor]], *, max_tokens: int, blank: Example
) -> list[tuple[list[int], TokenBatch]]:
    """Packs groups, each prompt once with all its completions behind it, into rows; a group is never split.

    Args:
        prompts: One per group; their own completions are ignored. None gives one row of the blank alone.
        completions: Of each prompt its completions, int64 `[tokens]`, each of at least one token.
        max_tokens: Budget of a row. A longer group gets a row of its own.
        blank: As in `pack_examples`.

    Returns:
        The indices of each row's groups, and the row: at least one. Its targets and completion lengths are
        prompt-major: group after group, and within a group completion after completion.

    Raises:
        ValueError: Not one sequence of completions per prompt, or a completion is empty.
    """
    if len(prompts) != len(completions):
        raise ValueError(f"expected the completions of {len(prompts)} prompts, got those of {len(completions)}")
    if any(not len(completion) for group in completions for completion in group):
        raise ValueError("expected completions of at least one token, got an empty one: it has nothing to train on")
    lengths = [
        len(prompt.prompt_ids) + sum(len(completion) for completion in group)
        for prompt, group in zip(prompts, completions, strict=True)
    ]
    rows = assign_rows(lengths, max_tokens=max_tokens) or [[]]
    return [(row, _group_row([(prompts[i], completions[i]) for i in row], blank)) for row in rows]


def assign_rows(lengths: Sequence[int], *, max_tokens: int) -> list[list[int]]:
    """Returns the indices of each row's sequences: first-fit decreasing, deterministic."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((r for r, left in enumerate(room) if left >= lengths[index]), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(max_tokens)
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows


def pack_prompts(examples: Sequence[Example]) -> TokenBatch:
    """Returns one row of the prompts alone, in order, without targets; at least one prompt."""
    row = _Row()
    for example in examples:
        row.add(example.prompt_ids, example.vision)
    return row.finish(None)


def _example_row(examples: Sequence[Example], blank: Example) -> TokenBatch:
    row = _Row()
    for example in examples:
        row.add(torch.cat([example.prompt_ids, example.completion_ids]), example.vision)
        length = len(example.completion_ids)
        row.score(example.completion_ids, torch.arange(length) + row.num_tokens - length - 1)
    return row.finish(blank)


def _group_row(groups: Sequence[tuple[Example, Sequence[Tensor]]], blank: Example) -> TokenBatch:
    row = _Row()
    for prompt, completions in groups:
        prefix = row.add(prompt.prompt_ids, prompt.vision)
        end_of_prompt = torch.tensor([row.num_tokens - 1])
        for completion in completions:
            before_next = torch.arange(len(completion) - 1) + row.num_tokens
            row.add(completion, {}, prefix=prefix)
            row.score(completion, torch.cat([end_of_prompt, before_next]))
    return row.finish(blank)


class _Row:
    """A row in the making."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self.tokens: list[Tensor] = []
        self.segments: list[Segment] = []
        self.vision: list[dict[str, Tensor]] = []
        self.predictors: list[Tensor] = []
        self.targets: list[Tensor] = []

    def add(self, token_ids: Tensor, vision: dict[str, Tensor], *, prefix: int | None = None) -> int:
        """Appends a segment and returns its index."""
        self.segments.append(Segment(self.num_tokens, len(token_ids), prefix))
        self.tokens.append(token_ids)
        self.num_tokens += len(token_ids)
        if vision:
            self.vision.append(vision)
        return len(self.segments) - 1

    def score(self, targets: Tensor, predictors: Tensor) -> None:
        """Makes a completion's tokens targets."""
        self.targets.append(targets)
        self.predictors.append(predictors)

    def finish(self, blank: Example | None) -> TokenBatch:
        """Returns the row, with a blank picture behind it where it has none of its own."""
        if blank is not None and not self.vision:
            self.add(blank.prompt_ids, blank.vision)
        none = torch.empty(0, dtype=torch.int64)
        return TokenBatch(
            token_ids=torch.cat(self.tokens),
            segments=tuple(self.segments),
            predictors=torch.cat(self.predictors or [none]),
            targets=torch.cat(self.targets or [none]),
            completion_lengths=torch.tensor([len(targets) for targets in self.targets], dtype=torch.int64),
            vision=join_vision(self.vision),
        )
