from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_r1v3.types import Example, ExampleBatch

GROUPS = ["vision_tower", "connector", "language_model"]
NO_CLIPPING = 1e9


def gradients(stage: Any, examples: list[Example], num_tokens: int) -> list[Tensor]:
    rows = stage.pack(examples)
    stage.train_rows(rows, lambda _, stats: -stats.logprobs.sum() / num_tokens)
    return [parameter.grad for parameter in stage.parameters() if parameter.requires_grad]


def distance(one: list[Tensor], other: list[Tensor]) -> float:
    """Of two gradients, relative to their global norm."""
    difference = torch.stack([(a - b).norm() for a, b in zip(one, other, strict=True)]).norm()
    return float(difference / torch.stack([tensor.norm() for tensor in one]).norm())


def test_rows_of_a_small_budget_give_the_gradient_of_one_row(
    stage: Callable[..., Any], examples: list[Example]
) -> None:
    num_tokens = sum(len(example.completion_ids) for example in examples)
    whole, split = stage(max_tokens_per_microbatch=10_000), stage(max_tokens_per_microbatch=1)
    assert (len(whole.pack(examples)), len(split.pack(examples))) == (1, len(examples))
    assert distance(gradients(whole, examples, num_tokens), gradients(split, examples, num_tokens)) < 1e-6


def test_a_batch_without_examples_still_runs_the_vision_tower(stage: Callable[..., Any]) -> None:
    module = stage()
    module.train_rows(module.pack([]), lambda _, stats: -stats.logprobs.sum())
    assert all(parameter.grad is not None for parameter in module.parameters() if parameter.requires_grad)


def test_frozen_groups_have_no_gradient_and_no_optimizer_state(
    stage: Callable[..., Any], examples: list[Example]
) -> None:
    module = stage(trainable=["connector"])
    module.training_step(ExampleBatch(tuple(examples)), 0)
    trained = sum(1 for parameter in module.parameters() if parameter.requires_grad)
    assert len(module.optimizers().state_dict()["state"]) == trained
    assert [group["name"] for group in module.optimizers().param_groups] == ["connector"]
    assert trained == len(module.model.named_groups()["connector"])


def test_module_groups_have_learning_rates_of_their_own(stage: Callable[..., Any]) -> None:
    optimizer = partial(torch.optim.AdamW, lr=0.1)
    module = stage(optimizer=optimizer, group_learning_rates={"vision_tower": 0.02})
    rates = {group["name"]: group["lr"] for group in module.optimizers().param_groups}
    assert rates == {"vision_tower": 0.02, "connector": 0.1, "language_model": 0.1}


def test_a_learning_rate_of_a_frozen_group_is_refused(stage: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"names \['vision_tower'\], but only \['connector'\] train"):
        stage(trainable=["connector"], group_learning_rates={"vision_tower": 0.1})


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_gradient_that_is_not_finite_skips_the_step_and_is_counted(
    stage: Callable[..., Any], examples: list[Example], caplog: pytest.LogCaptureFixture
) -> None:
    module = stage()
    before = [parameter.clone() for parameter in module.parameters()]
    module.train_rows(module.pack(examples), lambda _, stats: stats.logprobs.sum() * float("inf"))
    with caplog.at_level(logging.WARNING):
        module.take_step()
    assert "left out" in caplog.text
    assert module.num_skipped_steps == 1
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert module.lr_schedulers().last_epoch == 1


def test_the_count_of_skipped_steps_is_kept_in_the_checkpoint(stage: Callable[..., Any]) -> None:
    module, other, checkpoint = stage(), stage(), {}
    module.num_skipped_steps = 3
    module.on_save_checkpoint(checkpoint)
    other.on_load_checkpoint(checkpoint)
    assert other.num_skipped_steps == 3


def test_gradients_are_clipped_to_their_global_norm(stage: Callable[..., Any], examples: list[Example]) -> None:
    optimizer = partial(torch.optim.SGD, lr=1.0)
    module = stage(optimizer=optimizer, max_grad_norm=1e-3)
    before = [parameter.detach().clone() for parameter in module.parameters()]
    module.training_step(ExampleBatch(tuple(examples)), 0)
    moved = torch.stack([(a - b.detach()).norm() for a, b in zip(before, module.parameters(), strict=True)]).norm()
    assert float(moved) == pytest.approx(1e-3, rel=1e-3)
    assert module.logged["train/grad_norm"] > 1e-3


def test_the_backbone_trains_in_training_mode(stage: Callable[..., Any]) -> None:
    assert all(module.training for module in stage().modules())
