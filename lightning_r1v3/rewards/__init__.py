"""Verifiable rewards: format, rule accuracy, an LLM verifier, and their mix (paper, section 3.1).

The names load on first use: a verifier process imports the rule alone, without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_r1v3.rewards.format import format_reward
    from lightning_r1v3.rewards.llm_verifier import LLMVerifier
    from lightning_r1v3.rewards.mixed import MixedReward
    from lightning_r1v3.rewards.reward import RewardBatch, RewardFunction
    from lightning_r1v3.rewards.rule import rule_accuracy
    from lightning_r1v3.rewards.worker_pool import Verdict, VerificationRequest, VerifierPool

_HOMES = {
    "LLMVerifier": "llm_verifier",
    "MixedReward": "mixed",
    "RewardBatch": "reward",
    "RewardFunction": "reward",
    "Verdict": "worker_pool",
    "VerificationRequest": "worker_pool",
    "VerifierPool": "worker_pool",
    "format_reward": "format",
    "rule_accuracy": "rule",
}

__all__ = [
    "LLMVerifier",
    "MixedReward",
    "RewardBatch",
    "RewardFunction",
    "Verdict",
    "VerificationRequest",
    "VerifierPool",
    "format_reward",
    "rule_accuracy",
]


def __getattr__(name: str) -> Any:
    """Loads a public name on first use.

    Raises:
        AttributeError: When there is no such name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
