"""Entropy where a reasoning move starts: "Wait", "Alternatively", … (paper 5.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.backbone.packing import pack_examples
from lightning_r1v3.types import Example

MOVES = ("Wait", "Alternatively", "Hmm", "But", "However", "Let me check")
"""Openings of a new thought; capitals, because "but" within a sentence is none."""

_MOVE = re.compile("|".join(rf"\b{re.escape(move)}\b" for move in MOVES))


def critical_tokens(token_ids: Sequence[int], decode: Callable[[list[int]], str]) -> list[int]:
    """Returns the indices of the tokens that hold the first letter of a move.

    Args:
        token_ids: Of a completion.
        decode: The tokenizer's.
    """
    pieces = [decode([token]) for token in token_ids]  # matched as joined, so that offsets fit whatever a piece shows
    ends = list(accumulate(map(len, pieces)))
    starts = {match.start() for match in _MOVE.finditer("".join(pieces))}
    return [index for index, end in enumerate(ends) if any(end - len(pieces[index]) <= at < end for at in starts)]


@torch.no_grad()
def critical_entropies(
    backbone: Backbone, completed: Sequence[Example], *, temperature: float, max_tokens: int, blank: Example
) -> Tensor:
    """Returns the entropies of the distributions that critical tokens were drawn from, float32 `[moves]`, nats.

    Args:
        backbone: What drew the completions.
        completed: Prompts with them.
        temperature: They were drawn at.
        max_tokens: Of a packed row.
        blank: As in `pack_examples`.
    """
    decode = backbone.processor.tokenizer.decode
    found = {id(example): critical_tokens(example.completion_ids.tolist(), decode) for example in completed}
    with_moves = [example for example in completed if found[id(example)]]
    entropies = [torch.zeros(0)]
    for examples, row in pack_examples(with_moves, max_tokens=max_tokens, blank=blank) if with_moves else []:
        entropy = backbone(row.to(backbone.device), temperature=temperature).entropy.cpu()
        parts = entropy.split([len(example.completion_ids) for example in examples])
        entropies += [part[found[id(example)]] for example, part in zip(examples, parts, strict=True)]
    return torch.cat(entropies)
