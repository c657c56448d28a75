from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from lightning_r1v3.data.preprocess import Preprocessor
from lightning_r1v3.modules.critical_tokens import critical_entropies, critical_tokens
from lightning_r1v3.types import Example


@pytest.mark.parametrize(
    ("pieces", "indices"),
    [
        (["It is 3.", "\n", "Wait", ", no."], [2]),
        (["It is 3.\nWa", "it, no."], [0]),
        (["So", " But", " that"], [1]),
        (["Waiting", " But", "ter"], []),
        (["Let", " me", " check", " Let", " me", " see"], [0]),
        (["Hmm", ". ", "Alter", "natively"], [0, 2]),
        ([], []),
    ],
)
def test_the_token_that_starts_a_move_is_found_however_it_is_split(pieces: list[str], indices: list[int]) -> None:
    assert critical_tokens(range(len(pieces)), lambda ids: "".join(pieces[i] for i in ids)) == indices


def test_entropies_are_those_of_the_distributions_that_the_moves_were_drawn_from(
    stage: Callable[..., Any], examples: list[Example], preprocessor: Preprocessor
) -> None:
    module = stage()
    texts = ["It is 3. Wait, no. But yes.", "It is 3.", "Hmm."]
    completed = [
        preprocessor(replace(example.sample, response=text)) for example, text in zip(examples, texts, strict=False)
    ]
    moves = [critical_tokens(example.completion_ids.tolist(), module.tokenizer.decode) for example in completed]
    assert [len(indices) for indices in moves] == [2, 0, 1]
    expected = []
    with torch.no_grad():
        for example, indices in zip(completed, moves, strict=True):
            [(_, row)] = module.pack([example])
            expected += module.model(row, temperature=0.7).entropy[indices].tolist()
    found = critical_entropies(
        module.model, completed, temperature=0.7, max_tokens=10_000, blank=preprocessor.blank
    ).tolist()
    assert sorted(found) == pytest.approx(sorted(expected), rel=1e-5)


def test_without_moves_there_is_no_entropy(stage: Callable[..., Any], preprocessor: Preprocessor) -> None:
    found = critical_entropies(stage().model, [], temperature=1.0, max_tokens=99, blank=preprocessor.blank)
    assert len(found) == 0
