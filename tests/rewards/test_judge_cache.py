from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from lightning_r1v3.rewards.judge_cache import JudgeCache


def test_verdicts_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "new" / "cache.sqlite"
    first = JudgeCache(path)
    first.put("a", accepted=True)
    first.put("b", accepted=False)
    first.close()
    second = JudgeCache(path)
    assert [second.get(key) for key in "abc"] == [True, False, None]
    second.close()


def test_two_processes_may_hold_it_at_once(tmp_path: Path) -> None:
    first, second = JudgeCache(tmp_path / "cache"), JudgeCache(tmp_path / "cache")
    first.put("a", accepted=True)
    second.put("b", accepted=False)
    assert second.get("a") is True
    assert first.get("b") is False
    first.close()
    second.close()


def test_key_depends_on_model_and_prompt() -> None:
    message = [{"role": "user", "content": "x"}]
    keys = {JudgeCache.key("m", message), JudgeCache.key("n", message), JudgeCache.key("m", [*message, *message])}
    assert len(keys) == 3


def test_a_file_that_is_no_cache_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.write_text("this is not a database, and long enough to be seen as none" * 20)
    with pytest.raises(ValueError, match="delete it or name another"):
        JudgeCache(path)


def test_closed_cache_cannot_be_read(tmp_path: Path) -> None:
    cache = JudgeCache(tmp_path / "cache")
    cache.close()
    with pytest.raises(sqlite3.ProgrammingError):
        cache.get("a")
