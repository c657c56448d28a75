"""The judge's verdicts on disk, so that no answer is paid for twice, over runs and processes."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from pathlib import Path

_LOCK_WAIT_S = 30.0  # other ranks may be writing


class JudgeCache:
    """A table from the hash of model and prompt to a verdict; each write is one transaction.

    Args:
        path: SQLite file, made with its folder when missing.

    Raises:
        ValueError: When the file is not such a cache.
    """

    def __init__(self, path: str | Path) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=_LOCK_WAIT_S, check_same_thread=False)
        try:
            with self._connection:
                self._connection.execute("CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, accepted INTEGER)")
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ValueError(
                f"expected {path} to be a verdict cache, got {error}; delete it or name another"
            ) from error

    @staticmethod
    def key(model: str, messages: list[dict[str, str]]) -> str:
        """Returns the hash under which a prompt's verdict is kept."""
        return hashlib.sha256(json.dumps([model, messages], sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> bool | None:
        """Returns the verdict kept under `key`, or None."""
        with self._lock:
            row = self._connection.execute("SELECT accepted FROM verdicts WHERE key = ?", (key,)).fetchone()
        return None if row is None else bool(row[0])

    def put(self, key: str, *, accepted: bool) -> None:
        """Keeps a verdict; it is on disk when this returns."""
        with self._lock, self._connection:
            self._connection.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", (key, int(accepted)))

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()
