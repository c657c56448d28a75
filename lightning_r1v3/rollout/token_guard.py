"""A guard in front of every route of a rollout server: no token, no answer."""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

TOKEN_VARIABLE = "R1V3_ROLLOUT_TOKEN"
"""Environment variable that carries the token: unlike arguments, other users of the machine cannot read it."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class TokenGuard:
    """ASGI middleware: requests of any route without `Authorization: Bearer TOKEN` get 401.

    vLLM's own key guards `/v1` only, and leaves open the routes that pause the server and change its weights.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        """Reads the token from the environment.

        Raises:
            ValueError: There is none.
        """
        token = os.environ.get(TOKEN_VARIABLE, "")
        if not token:
            raise ValueError(f"expected a token in the variable {TOKEN_VARIABLE}, got none")
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on the start and end of the server, and calls with the token; refuses the rest."""
        if scope["type"] == "lifespan" or self._admits(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b"This server needs its token."})

    def _admits(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)
