from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_r1v3.objectives.losses import grpo_loss

MASK = torch.tensor([[True, True, True], [True, False, False]])


@pytest.fixture
def logprobs() -> Tensor:
    return torch.tensor([[-1.0, -2.0, -0.5], [-0.1, 0.0, 0.0]], requires_grad=True)


def test_golden_sequence_mean(logprobs: Tensor) -> None:
    old = logprobs.detach() - torch.tensor([[math.log(1.5), 0, 0], [0, 0, 0]])
    out = grpo_loss(logprobs, old, torch.tensor([1.0, -1.0]), MASK)
    # First completion: (min(1.5, 1.2) + 1 + 1) / 3; second: -1; mean over the two, negated.
    assert out.loss.item() == pytest.approx(-((3.2 / 3) - 1) / 2)
    assert out.metrics["clip_high_fraction"].item() == 1


def test_ratio_one_gives_the_policy_gradient(logprobs: Tensor) -> None:
    grpo_loss(logprobs, logprobs.detach(), torch.tensor([2.0, -1.0]), MASK).loss.backward()
    expected = -torch.tensor([[2 / 3, 2 / 3, 2 / 3], [-1.0, 0, 0]]) / 2
    assert torch.allclose(logprobs.grad, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("aggregation", ["sequence", "token", "constant"])
def test_micro_batches_add_up(logprobs: Tensor, aggregation: str) -> None:
    counts = {"sequence": 2, "token": 4, "constant": 6}
    options = {"aggregation": aggregation, "denominator": counts[aggregation], "max_length": 3}
    args = (logprobs, logprobs.detach() - 0.1, torch.tensor([1.0, -2.0]), MASK)
    whole = grpo_loss(*args, **options).loss
    parts = [grpo_loss(*(a[i : i + 1] for a in args), **options).loss for i in range(2)]
    assert whole.item() == pytest.approx(sum(part.item() for part in parts), rel=1e-6)


def test_own_count_is_the_default(logprobs: Tensor) -> None:
    args = (logprobs, logprobs.detach(), torch.tensor([1.0, -2.0]), MASK)
    assert grpo_loss(*args).loss.item() == pytest.approx(grpo_loss(*args, denominator=2).loss.item())


def test_clipped_tokens_have_no_gradient(logprobs: Tensor) -> None:
    grpo_loss(logprobs, logprobs.detach() - 1, torch.tensor([1.0, 1.0]), MASK).loss.backward()
    assert logprobs.grad.abs().max() == 0  # type: ignore[union-attr]


def test_clip_higher_lets_more_through(logprobs: Tensor) -> None:
    args = (logprobs, logprobs.detach() - math.log(1.25), torch.tensor([1.0, 1.0]), MASK)
    assert grpo_loss(*args, clip_high=0.28).loss < grpo_loss(*args).loss


def test_kl_of_equal_policies_is_zero(logprobs: Tensor) -> None:
    args = (logprobs, logprobs.detach(), torch.tensor([1.0, 1.0]), MASK)
    assert grpo_loss(*args, ref_logprobs=logprobs.detach(), kl_coef=1.0).loss == grpo_loss(*args).loss


def test_kl_is_never_negative(logprobs: Tensor) -> None:
    args = (logprobs, logprobs.detach(), torch.tensor([1.0, 1.0]), MASK)
    for shift in (-0.5, 0.5):
        assert grpo_loss(*args, ref_logprobs=logprobs.detach() + shift, kl_coef=1.0).loss > grpo_loss(*args).loss


def test_sequence_importance_uses_the_mean_ratio(logprobs: Tensor) -> None:
    shift = torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.0, 0.0]])
    out = grpo_loss(logprobs, logprobs.detach() - shift, torch.tensor([1.0, 0.0]), MASK, importance="sequence")
    assert out.loss.item() == pytest.approx(-math.exp(0.1) / 2)
    out.loss.backward()
    assert logprobs.grad[0].unique().numel() == 1  # type: ignore[index]


def test_truncated_importance_sampling_caps_the_weight(logprobs: Tensor) -> None:
    old = logprobs.detach()
    rollout = old - math.log(10)
    args = (logprobs, old, torch.tensor([1.0, 1.0]), MASK)
    corrected = grpo_loss(*args, rollout_logprobs=rollout, truncate_ratio=2.0)
    assert corrected.loss.item() == pytest.approx(2 * grpo_loss(*args).loss.item())


def test_only_the_most_uncertain_tokens_train(logprobs: Tensor) -> None:
    entropy = torch.tensor([[0.1, 3.0, 0.2], [0.3, 0.0, 0.0]])
    args = (logprobs, logprobs.detach(), torch.tensor([1.0, 1.0]), MASK)
    grpo_loss(*args, entropy=entropy, top_entropy_fraction=0.25).loss.backward()
    assert logprobs.grad.nonzero().tolist() == [[0, 1]]  # type: ignore[union-attr]


def test_advantages_per_token_are_ppo(logprobs: Tensor) -> None:
    advantages = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0]])
    out = grpo_loss(logprobs, logprobs.detach(), advantages, MASK, aggregation="token")
    assert out.loss.item() == pytest.approx(-2.5)


def test_clip_cov_cuts_the_token_of_highest_covariance(logprobs: Tensor) -> None:
    args = (logprobs, logprobs.detach(), torch.tensor([1.0, -1.0]), MASK)
    grpo_loss(*args, clip_cov_fraction=0.25).loss.backward()
    assert (logprobs.grad[MASK] == 0).sum() == 1  # type: ignore[index]


def test_empty_mask_gives_zero_loss(logprobs: Tensor) -> None:
    out = grpo_loss(logprobs, logprobs.detach(), torch.tensor([1.0, 1.0]), torch.zeros_like(MASK))
    assert out.loss.item() == 0


@pytest.mark.parametrize("option", [{"kl_coef": 0.1}, {"truncate_ratio": 2.0}, {"entropy_coef": 0.1}])
def test_options_without_their_tensor_are_refused(logprobs: Tensor, option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs"):
        grpo_loss(logprobs, logprobs.detach(), torch.tensor([1.0, 1.0]), MASK, **option)
