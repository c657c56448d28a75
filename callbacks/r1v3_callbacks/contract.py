"""What the callbacks read: the dict that `training_step` and `validation_step` return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning import LightningModule
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_DECODED = WeakTensorKeyDictionary()
"""Of token ids that are still in use: their mask, the tokenizer, and what `completions` returns."""


@dataclass(frozen=True)
class Keys:
    """Names of the entries of the dict, where B completions of at most T tokens are this process's in the batch."""

    loss: str = "loss"
    """The loss, a number."""
    token_entropy: str = "token_entropy"
    """`[B, T]`, nats: `[b, t]` is the entropy of the distribution that token t was drawn from."""
    token_ids: str = "token_ids"
    """int64 `[B, T]`: the completions without their prompts."""
    token_mask: str = "token_mask"
    """bool `[B, T]`: True for a completion's tokens, False for padding, which is on the right."""
    rewards: str = "rewards"
    """`[B]`."""
    accuracy: str = "accuracy"
    """`[B]`: 1 for a right answer, 0 for a wrong one."""
    domain: str = "domain"
    """B strings."""
    difficulty: str = "difficulty"
    """B strings."""
    phase_seconds: str = "phase_seconds"
    """Seconds of the step by phase, a dict."""
    tokenizer: str = "tokenizer"
    """The module's attribute with a `decode` that takes a list of token ids."""


def entries(outputs: Mapping[str, Any], names: tuple[str, ...], reader: str) -> list[Any]:
    """Returns entries of a step's output.

    Args:
        outputs: What the step returned.
        names: Of the entries.
        reader: Who reads, for the message.

    Raises:
        ValueError: One is missing; the message lists the entries that are there.
    """
    if missing := [name for name in names if name not in outputs]:
        raise ValueError(
            f"{reader} needs {missing} in the dict that the step returns and found {sorted(outputs)}: "
            "return them too, or give their names with the argument `keys`"
        )
    return [outputs[name] for name in names]


def completions(token_ids: Tensor, token_mask: Tensor, tokenizer: Any) -> list[tuple[list[int], str]]:
    """Returns each completion's token ids, without padding, and their text; decoded once for all callbacks."""
    known: tuple[Tensor, Any, list[tuple[list[int], str]]] | None = _DECODED.get(token_ids)
    if known is not None and known[0] is token_mask and known[1] is tokenizer:
        return known[2]
    lengths = token_mask.sum(dim=1).tolist()
    rows = [ids[:length] for ids, length in zip(token_ids.tolist(), lengths, strict=True)]
    decoded = [(ids, tokenizer.decode(ids)) for ids in rows]
    _DECODED[token_ids] = token_mask, tokenizer, decoded
    return decoded


def tokenizer_of(module: LightningModule, attribute: str, reader: str) -> Any:
    """Returns the module's tokenizer, whose `decode` takes a list of ids.

    Raises:
        ValueError: The module has no such attribute.
    """
    tokenizer = getattr(module, attribute, None)
    if tokenizer is None:
        raise ValueError(
            f"{reader} decodes tokens with {type(module).__name__}.{attribute}, which does not exist: "
            "set it, or name another attribute with the argument `keys`"
        )
    return tokenizer
