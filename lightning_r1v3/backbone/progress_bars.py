"""transformers' progress bars, silenced while we read and write checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import logging as transformers_logging


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Switches transformers' progress bars off inside, and back on afterwards if they were on."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
