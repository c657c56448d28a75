"""vLLM's parameters carry the functions that load them as attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def weight_loaders_kept(parameters: Iterable[Any]) -> Iterator[None]:
    """Gives parameters the attributes back that they have now, once the body is left."""
    own = {id(parameter): (parameter, vars(parameter).copy()) for parameter in parameters}
    try:
        yield
    finally:
        for parameter, attributes in own.values():
            vars(parameter).clear()
            vars(parameter).update(attributes)
