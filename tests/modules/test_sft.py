from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from lightning_r1v3.types import Example, ExampleBatch


def test_the_loss_is_the_mean_over_the_completion_tokens(stage: Callable[..., Any], examples: list[Example]) -> None:
    module = stage(max_tokens_per_microbatch=200)
    with torch.no_grad():
        scored = torch.cat([module.model(row).logprobs for _, row in module.pack(examples)])
    module.training_step(ExampleBatch(tuple(examples)), 0)
    assert len(scored) == module.logged["train/tokens"] == sum(len(example.completion_ids) for example in examples)
    assert module.logged["train/loss"] == pytest.approx(float(-scored.mean()), rel=1e-5)


def test_the_output_is_what_callbacks_read(stage: Callable[..., Any], examples: list[Example]) -> None:
    output = stage(max_tokens_per_microbatch=200).training_step(ExampleBatch(tuple(examples)), 0)
    lengths = sorted(len(example.completion_ids) for example in examples)
    shape = (len(examples), lengths[-1])
    assert output["token_entropy"].shape == output["token_ids"].shape == output["token_mask"].shape == shape
    assert sorted(output["token_mask"].sum(dim=1).tolist()) == lengths
    assert not output["token_entropy"][~output["token_mask"]].any()
    assert sorted(output["domain"]) == sorted(example.sample.domain for example in examples)
    assert output["phase_seconds"].keys() == {"pack", "update"}
    assert not any(value.requires_grad for value in output.values() if isinstance(value, torch.Tensor))


def test_each_row_of_the_output_is_one_completion(stage: Callable[..., Any], examples: list[Example]) -> None:
    output = stage().training_step(ExampleBatch(tuple(examples)), 0)
    rows = {tuple(ids[mask].tolist()) for ids, mask in zip(output["token_ids"], output["token_mask"], strict=True)}
    assert rows == {tuple(example.completion_ids.tolist()) for example in examples}


def test_a_batch_that_was_dropped_whole_trains_nothing(stage: Callable[..., Any]) -> None:
    output = stage().training_step(ExampleBatch(()), 0)
    assert float(output["loss"]) == 0.0
    assert output["token_mask"].shape == (1, 0)


def test_samples_without_a_response_are_refused(stage: Callable[..., Any], examples: list[Example]) -> None:
    none = torch.empty(0, dtype=torch.int64)
    problems = tuple(replace(example, completion_ids=none) for example in examples)
    with pytest.raises(ValueError, match="needs samples with a `response`"):
        stage().training_step(ExampleBatch(problems), 0)


def test_training_makes_the_responses_likelier(stage: Callable[..., Any], examples: list[Example]) -> None:
    module = stage()
    losses = []
    for _ in range(4):
        module.training_step(ExampleBatch(tuple(examples)), 0)
        losses.append(module.logged["train/loss"])
    assert losses == sorted(losses, reverse=True)
