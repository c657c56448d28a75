"""The learned half of the accuracy reward: a language model judges the answers that the rule rejected (eq. 2)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from lightning_r1v3.rewards.audit import AuditFile
from lightning_r1v3.rewards.chat_client import BudgetError, ChatClient, ChatError
from lightning_r1v3.rewards.judge_cache import JudgeCache
from lightning_r1v3.rewards.judge_prompt import JudgeQuestion, judge_messages, may_be_shown, parse_reply

logger = logging.getLogger(__name__)

JudgeStatus = Literal["ok", "cached", "refused", "garbage", "unavailable", "over_budget"]
_REPLY_TOKENS = 16


@dataclass(frozen=True)
class Opinion:
    """What the judge made of one answer."""

    accepted: bool
    """True when it took the answer for right; False whenever it gave no verdict."""
    status: JudgeStatus
    """`ok`, `cached`, `refused` (never shown to it), `garbage` (no readable verdict), `unavailable`, `over_budget`."""


class LLMVerifier:
    """Asks an OpenAI-compatible endpoint; the paper served Qwen2.5-32B-Instruct with vLLM.

    Where it gives no verdict the rule decides alone: that is counted in the status, and logged as an error. After
    `max_failures` failed questions in a row it is not asked again for `cooldown_s`, so that a dead endpoint does
    not slow the trainer.

    Args:
        base_url: Address up to the version, e.g. `http://localhost:8000/v1`.
        model: Name under which the endpoint serves the judge.
        api_key_env: Environment variable with the key, or None.
        timeout_s: Seconds for one call.
        max_retries: Further attempts after a failed call.
        backoff_s: Pause before the first retry, doubling, with jitter.
        max_concurrency: Calls in flight at once.
        max_calls: Budget of calls for this process, or None.
        max_failures: Failed questions in a row after which the endpoint counts as down.
        cooldown_s: Seconds before an endpoint that is down is tried again.
        cache_path: SQLite file of verdicts, or None for no cache.
        audit_path: JSON-lines file of disagreements, or None for none.

    Raises:
        ValueError: When an argument is out of its range, the key is missing, or the cache is no cache.
    """

    STATUSES: ClassVar[tuple[JudgeStatus, ...]] = ("ok", "cached", "refused", "garbage", "unavailable", "over_budget")

    def __init__(  # noqa: PLR0913 (each is a key of the config)
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        timeout_s: float = 30.0,
        max_retries: int = 2,
        backoff_s: float = 0.5,
        max_concurrency: int = 32,
        max_calls: int | None = None,
        max_failures: int = 4,
        cooldown_s: float = 60.0,
        cache_path: str | Path | None = "runs/judge_cache.sqlite",
        audit_path: str | Path | None = "runs/judge_audit.jsonl",
    ) -> None:
        if max_concurrency < 1 or max_failures < 1 or cooldown_s < 0:
            raise ValueError(
                "expected max_concurrency and max_failures >= 1 and cooldown_s >= 0, got "
                f"{max_concurrency}, {max_failures}, {cooldown_s}; correct the verifier's arguments"
            )
        self._client = ChatClient(
            base_url,
            model,
            api_key_env=api_key_env,
            timeout_s=timeout_s,
            max_retries=max_retries,
            backoff_s=backoff_s,
            max_calls=max_calls,
        )
        self._max_concurrency, self._max_failures, self._cooldown_s = max_concurrency, max_failures, cooldown_s
        self._cache = None if cache_path is None else JudgeCache(cache_path)
        self._audit = None if audit_path is None else AuditFile(audit_path)
        self._lock = threading.Lock()
        self._failures = 0
        self._down_until = 0.0
        self._last_error = ""

    @property
    def num_calls(self) -> int:
        """Calls made to the endpoint so far, retries included."""
        return self._client.num_calls

    def judge(self, questions: Sequence[JudgeQuestion]) -> list[Opinion]:
        """Returns one opinion per question, in order; equal questions are asked once."""
        if not questions:
            return []
        keys = [JudgeCache.key(self._client.model, judge_messages(question)) for question in questions]
        distinct = dict(zip(keys, questions, strict=True))
        with ThreadPoolExecutor(min(self._max_concurrency, len(distinct))) as threads:
            by_key = dict(zip(distinct, threads.map(self._opinion, distinct, distinct.values()), strict=True))
        opinions = [by_key[key] for key in keys]
        self._report(questions, opinions)
        return opinions

    def close(self) -> None:
        """Closes the cache."""
        if self._cache is not None:
            self._cache.close()

    def _opinion(self, key: str, question: JudgeQuestion) -> Opinion:
        if not may_be_shown(question.final_answer):
            return Opinion(accepted=False, status="refused")
        cached = None if self._cache is None else self._cache.get(key)
        return self._ask(key, question) if cached is None else Opinion(cached, "cached")

    def _ask(self, key: str, question: JudgeQuestion) -> Opinion:
        if time.monotonic() < self._down_until:
            return Opinion(accepted=False, status="unavailable")
        try:
            reply = self._client.complete(judge_messages(question), max_tokens=_REPLY_TOKENS)
        except BudgetError as error:
            return self._no_opinion("over_budget", str(error))
        except ChatError as error:
            self._count_failure()
            return self._no_opinion("unavailable", str(error))
        self._failures = 0
        accepted = parse_reply(reply)
        if accepted is None:
            return self._no_opinion("garbage", f"unreadable verdict {reply[:80]!r}")
        if self._cache is not None:
            self._cache.put(key, accepted=accepted)
        return Opinion(accepted, "ok")

    def _no_opinion(self, status: JudgeStatus, reason: str) -> Opinion:
        self._last_error = reason
        return Opinion(accepted=False, status=status)

    def _count_failure(self) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= self._max_failures:
                self._failures, self._down_until = 0, time.monotonic() + self._cooldown_s

    def _report(self, questions: Sequence[JudgeQuestion], opinions: Sequence[Opinion]) -> None:
        missing = sum(opinion.status in ("garbage", "unavailable", "over_budget") for opinion in opinions)
        if missing:
            logger.error(
                "LLM verifier: no verdict on %d of %d answers, the rule decides alone (%s)",
                missing,
                len(opinions),
                self._last_error,
            )
        if self._audit is not None:
            for question, opinion in zip(questions, opinions, strict=True):
                if opinion.accepted:
                    self._audit.record(question, model=self._client.model, cached=opinion.status == "cached")
