"""From what the user writes (paths, globs, braces, URLs) to shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from braceexpand import braceexpand

_GLOB_CHARACTERS = frozenset("*?[")


def expand_braces(shards: str | Sequence[str]) -> list[str]:
    """Expands `{000..012}` and `{a,b}`; everything else stays.

    Raises:
        ValueError: If nothing is named.
    """
    patterns = [shards] if isinstance(shards, str) else list(shards)
    expanded = [name for pattern in patterns for name in braceexpand(pattern)]
    if not expanded:
        raise ValueError("no shards are named: expected paths, globs or brace patterns of tar files")
    return expanded


def is_stream(shard: str) -> bool:
    """Returns whether the shard is a URL or a pipe, which can be read only from its beginning."""
    return "://" in shard or shard.startswith("pipe:")


def expand_paths(shards: str | Sequence[str]) -> list[Path]:
    """Expands local paths, globs and braces, in the order given; a glob's matches are sorted by name.

    Raises:
        ValueError: If a pattern matches no file, a shard is named twice, or one is a URL or a pipe.
    """
    paths = [path for pattern in expand_braces(shards) for path in _matches(pattern)]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"shard {path} is named twice in {shards!r}")
    return paths


def _matches(pattern: str) -> list[Path]:
    if is_stream(pattern):
        raise ValueError(f"{pattern} cannot be indexed: read URLs and pipes as streams")
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        raise ValueError(f"{pattern} is a folder: name its shards, e.g. {pattern.rstrip('/')}/*.tar")
    root = Path(path.anchor or ".")
    matches = sorted(root.glob(str(path.relative_to(path.anchor)))) if _GLOB_CHARACTERS & set(pattern) else []
    if not matches:
        raise ValueError(f"no shard matches {pattern!r} (relative paths start at {Path.cwd()})")
    return matches
