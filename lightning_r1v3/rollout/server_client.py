"""Calls to one rollout server."""

from __future__ import annotations

import http.client
import json
import pickle
import socket
from base64 import b64encode
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from lightning_r1v3.rollout.errors import ServerError, ServerTimeoutError

_BAD_REQUEST = _HTTP_ERRORS = 400
_SHOWN_CHARACTERS = 500
_CACHES = ("reset_prefix_cache", "reset_mm_cache", "reset_encoder_cache")


class ServerClient:
    """Safe to use from many threads: each call has a connection of its own."""

    def __init__(self, url: str, token: str, *, timeout_s: float) -> None:
        """Stores the address.

        Args:
            url: `http://HOST:PORT`.
            token: Sent with every call.
            timeout_s: For the calls that concern the weights.

        Raises:
            ValueError: The address is no such URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"expected the address of a rollout server as http://HOST:PORT, got {url!r}")
        self.url = url
        self.host = parts.hostname
        self._port = parts.port
        self._connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._timeout_s = timeout_s
        self._open: set[http.client.HTTPConnection] = set()

    def break_off(self) -> None:
        """Ends the calls that wait for an answer, with a `ServerError`."""
        for connection in tuple(self._open):
            waiting = connection.sock  # None where the call has just begun or ended
            if waiting is not None:
                with suppress(OSError):  # ended since
                    waiting.shutdown(socket.SHUT_RDWR)

    def generate(self, request: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """Returns the reply to a request for completions.

        Raises:
            ServerError: There was none in time, or it was an error.
        """
        reply: dict[str, Any] = self._call("POST", "/inference/v1/generate", request, timeout_s=timeout_s)
        return reply

    def weight_version(self, *, timeout_s: float | None = None) -> str:
        """Returns what the last sync called the weights, as the engine behind the server says: proof that it lives.

        Raises:
            ServerError: It does not.
        """
        return str(self._call("GET", "/weight_info", timeout_s=timeout_s)["weight_version"])

    def world_size(self) -> int:
        """Returns the number of workers that weights are sent to."""
        return int(self._call("GET", "/get_world_size")["world_size"])

    def first_weight_difference(self, specs: list[tuple[str, list[int], bool]]) -> str:
        """Returns the first difference between the trainer's weights and the server's model, or an empty text."""
        rpc = {"method": "first_weight_difference", "args": [json.dumps(specs)]}
        answers = [answer["difference"] for answer in self._call("POST", "/collective_rpc", rpc)["results"]]
        return next((answer for answer in answers if answer), "")

    def pause(self) -> None:
        """Ends all running requests, and holds up new ones until `resume`."""
        self._call("POST", "/sleep?level=0&mode=abort")  # as /pause, which would wait 20 ms more

    def resume(self) -> None:
        """Takes requests again."""
        self._call("POST", "/wake_up?tags=scheduling")

    def reset_caches(self) -> None:
        """Forgets what the old weights computed: prefixes, pictures, and their embeddings, which are found by hash.

        Raises:
            ServerError: A cache is still in use.
        """
        for cache in _CACHES:
            answer = self._call("POST", f"/{cache}")
            if isinstance(answer, dict) and not answer.get("success", True):
                raise ServerError(f"{self.url}: {cache} failed, because requests are running")

    def abort_requests(self) -> None:
        """Ends all running requests."""
        self._call("POST", "/abort_requests", {})

    def sleep(self) -> None:
        """Moves the weights out of the GPU's memory, and drops the cache."""
        self._call("POST", "/sleep?level=1")

    def wake_up(self) -> None:
        """Moves the weights back."""
        self._call("POST", "/wake_up")

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Opens the way that weights take."""
        self._call("POST", "/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        """Begins an update."""
        self._call("POST", "/start_weight_update")

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receives weights."""
        handles = update_info.get("ipc_handles")
        if handles is not None:
            # vLLM's own form for GPU memory handles, which JSON cannot hold.
            rest = {name: value for name, value in update_info.items() if name != "ipc_handles"}
            update_info = rest | {"ipc_handles_pickled": b64encode(pickle.dumps(handles)).decode()}
        self._call("POST", "/update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Ends the update, and names the weights."""
        self._call("POST", "/finish_weight_update", {"weight_version": weight_version})

    def _call(self, method: str, path: str, body: Any = None, *, timeout_s: float | None = None) -> Any:
        timeout_s = timeout_s or self._timeout_s
        connection = self._connection(self.host, self._port, timeout=timeout_s)
        self._open.add(connection)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            response = connection.getresponse()
            status, content = response.status, response.read()
        except TimeoutError as error:
            raise ServerTimeoutError(f"{self.url}{path}: no answer within {timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{self.url}{path}: {type(error).__name__}: {error}") from error
        finally:
            self._open.remove(connection)
            connection.close()
        if status >= _HTTP_ERRORS:
            text = content.decode(errors="replace")[:_SHOWN_CHARACTERS]
            if status == _BAD_REQUEST:
                raise ValueError(f"{self.url}{path} refuses the request: {text}")
            raise ServerError(f"{self.url}{path}: HTTP {status}: {text}")
        return json.loads(content) if content else None
