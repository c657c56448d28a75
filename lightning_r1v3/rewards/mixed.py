"""The paper's reward: accuracy by rule or judge, mixed with format (section 3.1, eq. 1 to 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch

from lightning_r1v3.rewards.format import format_reward
from lightning_r1v3.rewards.judge_prompt import JudgeQuestion
from lightning_r1v3.rewards.llm_verifier import LLMVerifier
from lightning_r1v3.rewards.reward import RewardBatch
from lightning_r1v3.rewards.worker_pool import Verdict, VerificationRequest, VerifierPool
from lightning_r1v3.types import Sample


class MixedReward:
    """`R = accuracy_weight · accuracy + (1 - accuracy_weight) · format`.

    Accuracy is 1 when the rule accepts the final answer or, asked about what the rule rejected, the judge does.

    Args:
        accuracy_weight: The paper's epsilon, in [0, 1].
        verifier: Judge of answers that the rule rejects, or None for the rule alone.
        num_workers: Processes that apply the rule.
        timeout_s: Seconds for one completion; over it, the completion counts as wrong.

    Raises:
        ValueError: When an argument is out of its range.
    """

    def __init__(
        self,
        accuracy_weight: float = 0.8,
        verifier: LLMVerifier | None = None,
        *,
        num_workers: int = 2,
        timeout_s: float = 2.0,
    ) -> None:
        if not 0 <= accuracy_weight <= 1:
            raise ValueError(f"expected accuracy_weight in [0, 1], got {accuracy_weight}; the paper uses 0.8")
        self.accuracy_weight = accuracy_weight
        self.verifier = verifier
        self._pool = VerifierPool(num_workers=num_workers, timeout_s=timeout_s)

    def score(self, completions: Sequence[str], samples: Sequence[Sample], *, think_opened: bool) -> RewardBatch:
        """Returns the mixed rewards of `completions`, in order.

        Args:
            completions: B texts generated after the prompts.
            samples: B samples that they answer, one per completion.
            think_opened: True when the prompts end in `<think>`.

        Raises:
            ValueError: When the two lengths differ.
        """
        if len(completions) != len(samples):
            raise ValueError(
                f"expected one sample per completion, got {len(completions)} completions and {len(samples)} samples; "
                "repeat each sample group_size times"
            )
        verdicts = self._pool.score(
            [
                VerificationRequest(completion, sample.answer, sample.choices, think_opened)
                for completion, sample in zip(completions, samples, strict=True)
            ]
        )
        verdicts, judge_counts = self._ask_judge(verdicts, samples)
        accuracy = torch.tensor([float(verdict.correct) for verdict in verdicts], dtype=torch.float32)
        form = torch.tensor(
            [format_reward(text, think_opened=think_opened) for text in completions], dtype=torch.float32
        )
        status = tuple(verdict.status for verdict in verdicts)
        return RewardBatch(
            reward=self.accuracy_weight * accuracy + (1 - self.accuracy_weight) * form,
            accuracy=accuracy,
            format=form,
            status=status,
            counts={"rule_timeout": status.count("timeout"), "rule_error": status.count("error"), **judge_counts},
        )

    def close(self) -> None:
        """Ends the worker processes and the judge."""
        self._pool.close()
        if self.verifier is not None:
            self.verifier.close()

    def _ask_judge(
        self, verdicts: Sequence[Verdict], samples: Sequence[Sample]
    ) -> tuple[list[Verdict], dict[str, int]]:
        """Returns the verdicts with those that the judge overturned, and how often it did what."""
        if self.verifier is None:
            return list(verdicts), {}
        asked = [
            (index, JudgeQuestion(sample.question, sample.answer, verdict.final_answer, sample.choices))
            for index, (verdict, sample) in enumerate(zip(verdicts, samples, strict=True))
            if verdict.final_answer is not None and not verdict.correct
        ]
        opinions = self.verifier.judge([question for _, question in asked])
        merged = list(verdicts)
        for (index, _), opinion in zip(asked, opinions, strict=True):
            merged[index] = replace(merged[index], correct=opinion.accepted)
        statuses = Counter(opinion.status for opinion in opinions)
        counts = {f"judge_{status}": statuses[status] for status in LLMVerifier.STATUSES}
        accepted = sum(opinion.accepted for opinion in opinions)
        return merged, {"judge_asked": len(asked), "judge_accepted": accepted, **counts}
