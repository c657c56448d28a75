"""Packing: sequences become rows of one after another, without padding, up to a token budget.

A sequence is a prompt with one completion (fine-tuning), or a prompt with the completions that all continue it (a group
of rollouts): its prompt and its pictures stand in the row once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

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
    """Packs groups, each prompt once with its completions behind it, into rows.

    A group that is longer than a row is cut into parts, each with the prompt in front again.

    Args:
        prompts: One per group; their own completions are ignored. None gives one row of the blank alone.
        completions: Of each prompt its completions, int64 `[tokens]`, each of at least one token.
        max_tokens: Budget of a row. A longer prompt with one completion gets a row of its own.
        blank: As in `pack_examples`.

    Returns:
        The indices of each row's completions, counted through all groups, and the row: at least one. Its targets and
        completion lengths are in the order of the indices.

    Raises:
        ValueError: Not one sequence of completions per prompt, or a completion is empty.
    """
    if len(prompts) != len(completions):
        raise ValueError(f"expected the completions of {len(prompts)} prompts, got those of {len(completions)}")
    if any(not len(completion) for group in completions for completion in group):
        raise ValueError("expected completions of at least one token, got an empty one: it has nothing to train on")
    firsts = itertools.accumulate((len(group) for group in completions), initial=0)
    parts = [
        part
        for prompt, group, first in zip(prompts, completions, firsts, strict=False)
        for part in _parts(prompt, group, first, max_tokens=max_tokens)
    ]
    rows = assign_rows([part.num_tokens for part in parts], max_tokens=max_tokens) or [[]]
    chosen = [[parts[index] for index in row] for row in rows]
    return [([member for part in row for member in part.members], _group_row(row, blank)) for row in chosen]


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


@dataclass
class _Part:
    """A prompt with some completions of its group."""

    prompt: Example
    num_tokens: int
    """Of the prompt and the completions."""
    members: list[int]
    """Indices of the completions."""
    completions: list[Tensor]


def _parts(prompt: Example, completions: Sequence[Tensor], first: int, *, max_tokens: int) -> list[_Part]:
    """Cuts a group, whose completions are counted from `first`, into as few parts as fit into rows."""
    parts: list[_Part] = []
    for member, completion in enumerate(completions, start=first):
        if not parts or parts[-1].num_tokens + len(completion) > max_tokens:
            parts.append(_Part(prompt, len(prompt.prompt_ids), [], []))
        parts[-1].num_tokens += len(completion)
        parts[-1].members.append(member)
        parts[-1].completions.append(completion)
    return parts


def _group_row(parts: Sequence[_Part], blank: Example) -> TokenBatch:
    row = _Row()
    for part in parts:
        prefix = row.add(part.prompt.prompt_ids, part.prompt.vision)
        end_of_prompt = torch.tensor([row.num_tokens - 1])
        for completion in part.completions:
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
