"""How old may completions be, and are they as old as is said?"""

from __future__ import annotations

from lightning_r1v3.modules.episode import Episode
from lightning_r1v3.modules.policy_loss import PolicyLoss
from lightning_r1v3.rollout.engine import AheadEngine, RolloutEngine
from lightning_r1v3.rollout.errors import RolloutError


def check_staleness(max_staleness: int, engine: RolloutEngine, policy_loss: PolicyLoss) -> None:
    """Checks that completions that may be old can be drawn beside the training, and that the loss corrects for it.

    Raises:
        ValueError: The engine cannot draw beside the training, or nothing corrects for the old weights.
    """
    if not max_staleness:
        return
    if not isinstance(engine, AheadEngine) or not engine.draws_ahead:
        raise ValueError(
            "max_staleness 1 draws the next episode while this one trains, which needs a rollout server beside the "
            "trainer: add -c configs/overlays/vllm.yaml with engine.mode server, or set max_staleness: 0"
        )
    if policy_loss.truncate_ratio is None:
        raise ValueError(
            "max_staleness 1 trains on completions of the episode before, which the loss must correct for: set "
            "policy_loss.truncate_ratio, e.g. 2"
        )


def check_gap(gap: float, limit: float, episode: Episode, step: int) -> None:
    """Checks that learner and engine score an episode's tokens alike.

    Args:
        gap: Mean absolute difference, nats a token.
        limit: Of it.
        episode: The completions.
        step: Of the learner.

    Raises:
        RolloutError: They do not: the engine has other weights.
    """
    if not gap <= limit:
        raise RolloutError(
            f"rollout/logprob_gap is {gap:.2g} nats a token, more than max_logprob_gap {limit:g}: the engine's weights "
            f"(version {episode.policy_version}) are not the learner's (version {step}), or it sees other tokens or "
            "pixels. No step was taken on these rollouts. Serve the learner's processor and dtype; raise "
            "max_logprob_gap only where the two compute in low precision"
        )
