"""Checkpoints written so that a crash, a full disk or a failed write leaves the older ones as they were."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import Trainer

from r1v3_callbacks.ranks import gather

log = logging.getLogger(__name__)


def write_aside(write: Callable[[Path], Any], path: Path, trainer: Trainer) -> bool:
    """Writes a checkpoint under another name and renames it once it is whole; all processes must reach this.

    Args:
        write: Writes to a path, on all processes, and ends with one barrier of them, as `Trainer.save_checkpoint` does.
        path: Where the checkpoint goes, a file or, where it is sharded, a folder.
        trainer: For the ranks.

    Returns:
        Whether it worked, the same on every process; if not, a warning says why.
    """
    aside = path.with_name(f".{path.name}.unfinished")
    problem = ""
    try:
        write(aside)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError where a stream cannot be written
        problem = f"{type(error).__name__}: {error}"
        trainer.strategy.barrier("checkpoint not written")  # the others wait at the end of `write`
    return _all_well(problem, path, trainer) and on_rank_zero(lambda: _put(aside, path), path, trainer)


def on_rank_zero(change: Callable[[], Any], path: Path, trainer: Trainer) -> bool:
    """Makes a change of files on the first process; all processes must reach this.

    Returns:
        Whether it worked, the same on every process; if not, a warning says why.
    """
    problem = ""
    if trainer.is_global_zero:
        try:
            change()
        except OSError as error:
            problem = f"{type(error).__name__}: {error}"
    return _all_well(problem, path, trainer)


def write_text(path: Path, text: str) -> None:
    """Writes a text file aside and renames it."""
    aside = path.with_name(f".{path.name}.unfinished")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def point(link: Path, name: str) -> None:
    """Makes `link` lead to its neighbour `name`, whether or not it was there before."""
    aside = link.with_name(f".{link.name}.unfinished")
    aside.unlink(missing_ok=True)
    aside.symlink_to(name)
    aside.replace(link)


def remove(path: Path) -> None:
    """Removes a file, or a folder with what is in it, if it is there; a crash leaves no part of it under its name."""
    if path.is_dir() and not path.is_symlink():
        old = path.with_name(f".{path.name}.removed")
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        shutil.rmtree(old)
    else:
        path.unlink(missing_ok=True)


def _put(aside: Path, path: Path) -> None:
    if path.is_dir():  # a folder cannot be renamed over another
        old = path.with_name(f".{path.name}.replaced")
        remove(old)
        path.rename(old)
        aside.rename(path)
        remove(old)
    else:
        aside.replace(path)


def _all_well(problem: str, path: Path, trainer: Trainer) -> bool:
    problems = [text for text in gather(problem, trainer) if text]
    if not problems:
        return True
    if trainer.is_global_zero:
        log.warning("%s was not written, the older ones are as they were: %s", path, problems[0])
        remove(path.with_name(f".{path.name}.unfinished"))
    return False
