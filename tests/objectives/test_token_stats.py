from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, Int64, jaxtyped
from torch import Tensor

from lightning_r1v3.objectives.token_stats import linear_logprob_entropy

N, D, V = 7, 5, 11
BAN = -1e30


def inputs(dtype: torch.dtype = torch.float64, num_tokens: int = N) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(num_tokens, D, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(V, D, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    bias = torch.randn(V, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(V, (num_tokens,), generator=generator), bias


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logps = ((hidden @ weight.T + bias) / temperature).log_softmax(dim=-1)
    return logps.gather(1, targets[:, None])[:, 0], -(logps.exp() * logps).sum(dim=-1)


def test_golden_values() -> None:
    # Logits log 1, log 2, log 5: probabilities 1/8, 1/4, 5/8.
    weight = torch.tensor([[0.0], [math.log(2)], [math.log(5)]])
    logprobs, entropy = linear_logprob_entropy(torch.ones(2, 1), weight, torch.tensor([0, 2]))
    expected = math.log(8) / 8 + math.log(4) / 4 + 5 / 8 * math.log(8 / 5)
    torch.testing.assert_close(logprobs, torch.tensor([-math.log(8), math.log(5 / 8)]))
    torch.testing.assert_close(entropy, torch.tensor([expected, expected]))


def test_equal_logits_have_the_greatest_entropy() -> None:
    logprobs, entropy = linear_logprob_entropy(torch.zeros(1, D), torch.ones(V, D), torch.tensor([3]))
    assert logprobs.item() == pytest.approx(-math.log(V))
    assert entropy.item() == pytest.approx(math.log(V))


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("chunk_size", [None, 1, 3, N, 100])
def test_values_and_gradients_are_those_of_log_softmax(temperature: float, chunk_size: int | None) -> None:
    hidden, weight, targets, bias = inputs()
    incoming = torch.randn(2, N, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).unbind()
    ours = linear_logprob_entropy(hidden, weight, targets, bias=bias, temperature=temperature, chunk_size=chunk_size)
    theirs = plain(hidden, weight, targets, bias, temperature)
    gradients = [torch.autograd.grad(outputs, (hidden, weight, bias), incoming) for outputs in (ours, theirs)]
    for mine, reference in zip([*ours, *gradients[0]], [*theirs, *gradients[1]], strict=True):
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("chunk_size", [2, N])
def test_gradcheck(chunk_size: int) -> None:
    hidden, weight, targets, bias = inputs()
    assert torch.autograd.gradcheck(
        lambda *tensors: linear_logprob_entropy(
            tensors[0], tensors[1], targets, bias=tensors[2], temperature=0.7, chunk_size=chunk_size
        ),
        (hidden, weight, bias),
    )


@pytest.mark.parametrize("output", [0, 1])
def test_one_output_alone_can_be_differentiated(output: int) -> None:
    hidden, weight, targets, bias = inputs()
    ours = linear_logprob_entropy(hidden, weight, targets, bias=bias)[output]
    theirs = plain(hidden, weight, targets, bias, 1.0)[output]
    torch.testing.assert_close(*(torch.autograd.grad(out.sum(), (hidden, weight)) for out in (ours, theirs)))


def test_only_what_asks_for_a_gradient_gets_one() -> None:
    hidden, weight, targets, _ = inputs()
    linear_logprob_entropy(hidden, weight.detach(), targets)[0].sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_bfloat16_inputs_are_summed_in_float32() -> None:
    hidden, weight, targets, _ = inputs(torch.bfloat16)
    logprobs, entropy = linear_logprob_entropy(hidden, weight, targets, chunk_size=2)
    wide = [tensor.detach().float().requires_grad_() for tensor in (hidden, weight)]
    expected = plain(*wide, targets, torch.zeros(V), 1.0)
    assert logprobs.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close((logprobs, entropy), expected)
    (logprobs + entropy).sum().backward()
    (expected[0] + expected[1]).sum().backward()
    for narrow, reference in zip((hidden, weight), wide, strict=True):
        assert narrow.grad.dtype == torch.bfloat16
        torch.testing.assert_close(narrow.grad, reference.grad.bfloat16())


def test_a_banned_token_takes_no_probability_and_no_gradient() -> None:
    hidden, weight, _, _ = inputs(torch.float32)
    targets = torch.zeros(N, dtype=torch.int64)
    bias = torch.zeros(V)
    bias[4:] = BAN
    logprobs, entropy = linear_logprob_entropy(hidden, weight, targets, bias=bias, temperature=0.01)
    expected = plain(hidden, weight[:4], targets, torch.zeros(4), 0.01)
    torch.testing.assert_close((logprobs, entropy), expected, rtol=1e-5, atol=1e-4)
    (logprobs + entropy).sum().backward()
    assert hidden.grad.isfinite().all()
    assert not weight.grad[4:].any()


def test_large_logits_do_not_overflow() -> None:
    logprobs, entropy = linear_logprob_entropy(torch.full((1, 1), 1e4), torch.tensor([[1.0], [2.0]]), torch.tensor([1]))
    assert logprobs.item() == 0.0
    assert entropy.item() == 0.0


def test_no_tokens_no_values_and_zero_gradients() -> None:
    hidden, weight, targets, _ = inputs(num_tokens=0)
    logprobs, entropy = linear_logprob_entropy(hidden, weight, targets)
    assert logprobs.shape == entropy.shape == (0,)
    (logprobs.sum() + entropy.sum()).backward()
    assert hidden.grad.shape == (0, D)
    assert not weight.grad.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 20.0), st.integers(1, 9))
def test_ranges(seed: int, temperature: float, chunk_size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = (3 * torch.randn(n, D, generator=generator) for n in (N, V))
    targets = torch.randint(V, (N,), generator=generator)
    logprobs, entropy = linear_logprob_entropy(hidden, weight, targets, temperature=temperature, chunk_size=chunk_size)
    assert (logprobs <= 1e-5).all()
    assert (entropy >= -1e-5).all()
    assert (entropy <= math.log(V) + 1e-5).all()


@jaxtyped(typechecker=None)
def test_shapes() -> None:
    hidden, weight, targets, _ = inputs()
    logprobs, entropy = linear_logprob_entropy(hidden, weight, targets)
    assert isinstance(hidden, Float[Tensor, "n d"])
    assert isinstance(weight, Float[Tensor, "v d"])
    assert isinstance(targets, Int64[Tensor, "n"])
    assert isinstance(logprobs, Float[Tensor, "n"])
    assert isinstance(entropy, Float[Tensor, "n"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": torch.zeros(N, D + 1)}, r"hidden \[N, D\] and weight \[V, D\], got \[7, 6\] and \[11, 5\]"),
        ({"hidden": torch.zeros(1, N, D)}, r"got \[1, 7, 5\]"),
        ({"targets": torch.zeros(N)}, r"int64 targets \[7\], got torch.float32"),
        ({"targets": torch.zeros(N + 1, dtype=torch.int64)}, r"int64 targets \[7\], got torch.int64 \[8\]"),
        ({"weight": torch.zeros(V, D, dtype=torch.bfloat16)}, "cast one of them"),
        ({"bias": torch.zeros(V + 1)}, r"expected bias \[11\]"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"temperature": float("nan")}, "temperature above 0"),
        ({"chunk_size": 0}, "chunk_size of at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    arguments = {"hidden": torch.zeros(N, D), "weight": torch.zeros(V, D), "targets": torch.zeros(N, dtype=torch.int64)}
    with pytest.raises(ValueError, match=message):
        linear_logprob_entropy(**arguments | change)
