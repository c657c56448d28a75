"""Log-probability and entropy of tokens straight from hidden states, without the `[tokens, vocabulary]` logits.

The output layer, the log-softmax and the entropy are one pass over chunks of tokens: a chunk's logits live only while
its two numbers per token are taken, and are made again in the backward pass (one more matrix product instead of the
memory).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_CHUNK_LOGITS = 2**25
"""Logits alive at a time unless `chunk_size` says otherwise: 128 MiB in float32, long enough for matrix products."""

MAX_CHUNK_TOKENS = 512
"""Tokens of a chunk of a small vocabulary: more of them leave a processor's caches."""

_MATRIX = 2


def linear_logprob_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns log p(target) and the exact entropy of p = softmax((hidden @ weight.T + bias) / temperature).

    Both are differentiable with respect to `hidden`, `weight` and `bias`, to first order. Sums are taken in float32
    (float64 for float64 inputs), whatever the dtype of the inputs.

    Args:
        hidden: `[N, D]`, the state that predicts each target.
        weight: `[V, D]`, the output embedding, of `hidden`'s dtype.
        targets: int64 `[N]`, token ids in `[0, V)`.
        bias: `[V]`, added to the logits before the temperature; a large negative *finite* entry rules a token out.
        temperature: divisor of the logits, above 0.
        chunk_size: tokens per chunk; by default `MAX_CHUNK_TOKENS`, or what keeps it under `MAX_CHUNK_LOGITS` logits.

    Returns:
        `logprobs [N]`, at most 0, and `entropy [N]`, in `[0, log V]`; nats, float32 (float64 for float64 inputs).

    Raises:
        ValueError: shapes that do not fit, a temperature or chunk size that is not positive.
    """
    _check(hidden, weight, targets, bias, temperature, chunk_size)
    chunk_size = chunk_size or min(MAX_CHUNK_TOKENS, max(1, MAX_CHUNK_LOGITS // weight.shape[0]))
    outputs: tuple[Tensor, Tensor] = _LinearLogprobEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, temperature, chunk_size
    )
    return outputs


class _LinearLogprobEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk_size: int,
    ) -> tuple[Tensor, Tensor]:
        wide = _accumulation_dtype(hidden)
        logprobs = torch.empty(len(hidden), dtype=wide, device=hidden.device)
        entropy, log_norm = torch.empty_like(logprobs), torch.empty_like(logprobs)
        product_weight = _product_weight(weight)
        for start in range(0, len(hidden), chunk_size):
            span = slice(start, start + chunk_size)
            logits = _logits(hidden[span], product_weight, bias, temperature, wide)
            target_logits = logits.gather(1, targets[span, None]).squeeze(1)
            top = logits.amax(dim=1)
            logits.sub_(top[:, None])
            weights = logits.exp()
            norm = weights.sum(dim=1)
            entropy[span] = norm.log() - weights.mul_(logits).sum(dim=1) / norm
            log_norm[span] = norm.log() + top
            logprobs[span] = target_logits - log_norm[span]
        ctx.save_for_backward(hidden, weight, bias, targets, log_norm, entropy)
        ctx.temperature, ctx.chunk_size = temperature, chunk_size
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logprobs: Tensor, grad_entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, log_norm, entropy = ctx.saved_tensors
        wide = log_norm.dtype
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if ctx.needs_input_grad[2] else None
        product_weight = _product_weight(weight)
        for start in range(0, len(hidden), ctx.chunk_size):
            span = slice(start, start + ctx.chunk_size)
            logits = _logits(hidden[span], product_weight, bias, ctx.temperature, wide)
            logps = logits.sub_(log_norm[span, None])
            grad = _grad_logits(logps, targets[span], entropy[span], grad_logprobs[span], grad_entropy[span])
            grad.div_(ctx.temperature)
            if grad_bias is not None:
                grad_bias += grad.sum(dim=0)
            grad = grad.to(product_weight.dtype)
            if grad_hidden is not None:
                grad_hidden[span] = grad @ product_weight
            if grad_weight is not None:
                _add_product(grad_weight, grad.T, hidden[span].to(grad.dtype))
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            None,
            None,
            None,
        )


def _grad_logits(
    logps: Tensor, targets: Tensor, entropy: Tensor, grad_logprobs: Tensor, grad_entropy: Tensor
) -> Tensor:
    """Gradient with respect to a chunk's logits, written over `logps`: g_lp (onehot - p) - g_H p (log p + H)."""
    probs = logps.exp()
    grad = logps.add_(entropy[:, None]).mul_(-grad_entropy[:, None]).sub_(grad_logprobs[:, None]).mul_(probs)
    return grad.scatter_add_(1, targets[:, None], grad_logprobs[:, None])


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Adds left @ right to the total, summed in the total's dtype."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += torch.mm(left, right, out_dtype=total.dtype)


def _accumulation_dtype(hidden: Tensor) -> torch.dtype:
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


def _product_weight(weight: Tensor) -> Tensor:
    """The weight in the dtype of the matrix product: as it is on a GPU, widened once on a CPU."""
    return weight if weight.is_cuda or weight.dtype == torch.float64 else weight.float()


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float, wide: torch.dtype) -> Tensor:
    """A chunk's logits `[chunk, V]` in `wide`."""
    wide_already = weight.dtype == wide
    logits = hidden.to(wide) @ weight.T if wide_already else torch.mm(hidden, weight.T, out_dtype=wide)
    if bias is not None:
        logits += bias
    return logits if temperature == 1.0 else logits.div_(temperature)


def _check(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, temperature: float, chunk_size: int | None
) -> None:
    if not hidden.dim() == weight.dim() == _MATRIX or hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"expected hidden [N, D] and weight [V, D], got {[*hidden.shape]} and {[*weight.shape]}")
    if targets.shape != hidden.shape[:1] or targets.dtype != torch.int64:
        raise ValueError(f"expected int64 targets [{len(hidden)}], got {targets.dtype} {[*targets.shape]}")
    if hidden.dtype != weight.dtype:
        raise ValueError(f"expected one dtype, got hidden {hidden.dtype} and weight {weight.dtype}: cast one of them")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"expected bias [{len(weight)}], got {[*bias.shape]}")
    if not temperature > 0:
        raise ValueError(f"expected a temperature above 0, got {temperature}")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"expected a chunk_size of at least 1, got {chunk_size}")
