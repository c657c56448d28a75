from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lightning_r1v3.rollout.token_guard import TOKEN_VARIABLE, TokenGuard


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")


def answer(kind: str, *authorizations: str) -> dict[str, Any]:
    """The first message that a call gets."""
    messages: list[dict[str, Any]] = []

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "inside"})

    async def receive() -> dict[str, Any]:
        return {}

    async def send(message: Any) -> None:
        messages.append(message)

    headers = [(b"authorization", value.encode()) for value in authorizations]
    asyncio.run(TokenGuard(inside)({"type": kind, "headers": headers}, receive, send))
    return messages[0]


def test_the_token_opens() -> None:
    assert answer("http", "Bearer secret")["type"] == "inside"


@pytest.mark.parametrize(
    "given", [(), ("secret",), ("Bearer other",), ("Bearer ",), ("Bearer secret", "Bearer secret")]
)
def test_anything_else_is_refused(given: tuple[str, ...]) -> None:
    assert answer("http", *given)["status"] == 401


def test_websockets_are_guarded_too() -> None:
    assert answer("websocket")["type"] == "websocket.close"
    assert answer("websocket", "Bearer secret")["type"] == "inside"


def test_the_servers_own_start_passes() -> None:
    assert answer("lifespan")["type"] == "inside"


def test_without_a_token_there_is_no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE)
    with pytest.raises(ValueError, match=TOKEN_VARIABLE):
        TokenGuard(lambda *_: None)
