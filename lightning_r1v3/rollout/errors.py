"""What an engine raises when it cannot go on."""

from __future__ import annotations


class RolloutError(RuntimeError):
    """The rollout servers failed too often, or serve something else than the policy; the message says what to do."""


class ServerError(Exception):
    """One call to one server failed: it is gone, too slow, or answered with an error."""


class ServerTimeoutError(ServerError):
    """A server did not answer within the deadline."""
