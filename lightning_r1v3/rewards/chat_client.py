"""A small client of OpenAI-compatible chat endpoints, with timeout, retries and a budget of calls."""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request

_MAX_REPLY_BYTES = 1_000_000
_MAX_BACKOFF_S = 30.0
_RETRIED = frozenset({408, 409, 425, 429})  # besides 5xx: the server asks to come back


class ChatError(Exception):
    """The endpoint gave no usable reply after all retries."""


class BudgetError(Exception):
    """The budget of calls is spent."""


class ChatClient:
    """Asks one model; safe to use from many threads.

    Args:
        base_url: Address up to the version, e.g. `http://localhost:8000/v1`.
        model: Name under which the endpoint serves the model.
        api_key_env: Environment variable that holds the key, or None when the endpoint wants none.
        timeout_s: Seconds for one call, from connecting to the last byte.
        max_retries: Further attempts after a failed one.
        backoff_s: Pause before the first retry; doubled for each further one, times a random factor in [0.5, 1.5].
        max_calls: Calls allowed in this process's life, retries included; None for no limit.

    Raises:
        ValueError: When an argument is out of its range, or the key's variable is not set.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None,
        timeout_s: float,
        max_retries: int,
        backoff_s: float,
        max_calls: int | None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"expected base_url to start with http:// or https://, got {base_url!r}; give e.g. …/v1")
        if timeout_s <= 0 or max_retries < 0 or backoff_s < 0 or (max_calls is not None and max_calls < 0):
            raise ValueError(
                "expected timeout_s > 0 and max_retries, backoff_s, max_calls >= 0, got "
                f"{timeout_s}, {max_retries}, {backoff_s}, {max_calls}; correct the verifier's arguments"
            )
        if api_key_env is not None and api_key_env not in os.environ:
            raise ValueError(
                f"expected the API key in the variable {api_key_env}, got none; export it, or drop api_key_env"
            )
        self.model = model
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._headers = {"Content-Type": "application/json"}
        if api_key_env is not None:
            self._headers["Authorization"] = f"Bearer {os.environ[api_key_env]}"
        self._timeout_s, self._max_retries, self._backoff_s = timeout_s, max_retries, backoff_s
        self._max_calls, self._num_calls, self._lock = max_calls, 0, threading.Lock()

    @property
    def num_calls(self) -> int:
        """Calls made so far, retries included."""
        return self._num_calls

    def complete(self, messages: list[dict[str, str]], *, max_tokens: int) -> str:
        """Returns the model's reply to `messages` at temperature 0.

        Raises:
            ChatError: When all attempts failed.
            BudgetError: When the budget of calls is spent.
        """
        body = {"model": self.model, "messages": messages, "temperature": 0.0, "max_tokens": max_tokens}
        failure = ""
        for attempt in range(self._max_retries + 1):
            if attempt:
                pause = min(self._backoff_s * 2 ** (attempt - 1), _MAX_BACKOFF_S)
                time.sleep(pause * random.uniform(0.5, 1.5))  # jitter: a batch must not come back all at once
            self._spend()
            try:
                return self._post(json.dumps(body).encode())
            except urllib.error.HTTPError as error:
                error.close()
                failure = f"HTTP {error.code}"
                if error.code < 500 and error.code not in _RETRIED:  # noqa: PLR2004 (the server's own fault from 500 on)
                    break
            except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
                failure = f"{type(error).__name__}: {error}"
        raise ChatError(f"{self._url}: {failure}")

    def _spend(self) -> None:
        with self._lock:
            if self._max_calls is not None and self._num_calls >= self._max_calls:
                raise BudgetError(f"all {self._max_calls} calls of the budget are spent")
            self._num_calls += 1

    def _post(self, body: bytes) -> str:
        deadline = time.monotonic() + self._timeout_s
        request = urllib.request.Request(self._url, data=body, headers=self._headers, method="POST")
        received = b""
        with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
            while chunk := response.read1(65_536):
                received += chunk
                if time.monotonic() > deadline or len(received) > _MAX_REPLY_BYTES:
                    raise TimeoutError(f"the reply took over {self._timeout_s} s or {_MAX_REPLY_BYTES} bytes")
        content = json.loads(received)["choices"][0]["message"]["content"]
        if not isinstance(content, str):
            raise TypeError(f"expected the reply's content to be text, got {type(content).__name__}")
        return content
