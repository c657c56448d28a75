"""The audit file: every answer on which rule and judge disagree, for a person to read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from lightning_r1v3.rewards.judge_prompt import JudgeQuestion


class AuditFile:
    """JSON lines, appended; each line is one write, so that threads and ranks do not mix theirs.

    Args:
        path: The file, made with its folder when missing.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def record(self, question: JudgeQuestion, *, model: str, cached: bool) -> None:
        """Appends one disagreement: the rule rejected the answer, the judge accepted it."""
        entry = {**asdict(question), "rule": False, "judge": True, "model": model, "cached": cached}
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, (json.dumps(entry, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
        finally:
            os.close(descriptor)
