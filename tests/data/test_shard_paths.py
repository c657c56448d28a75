from __future__ import annotations

from pathlib import Path

import pytest

from lightning_r1v3.data.shard_paths import expand_braces, expand_paths, is_stream


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (2, 0, 1):
        (tmp_path / f"a-{number:03d}.tar").touch()
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_glob_is_sorted(folder: Path) -> None:
    assert names(expand_paths(f"{folder}/*.tar")) == ["a-000.tar", "a-001.tar", "a-002.tar"]


def test_braces_keep_their_order_and_zeros(folder: Path) -> None:
    assert names(expand_paths(f"{folder}/a-{{002..000}}.tar")) == ["a-002.tar", "a-001.tar", "a-000.tar"]


def test_a_relative_glob_starts_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert names(expand_paths(["a-00[01].tar"])) == ["a-000.tar", "a-001.tar"]


@pytest.mark.parametrize("pattern", ["b-*.tar", "a-{000..003}.tar"])
def test_a_pattern_without_a_file_is_an_error(folder: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match="no shard matches"):
        expand_paths(f"{folder}/{pattern}")


def test_a_folder_is_an_error_that_says_what_to_write(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"is a folder: name its shards, e.g. .*/\*\.tar"):
        expand_paths(str(folder))


def test_a_shard_named_twice_is_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="named twice"):
        expand_paths([f"{folder}/a-000.tar", f"{folder}/*.tar"])


@pytest.mark.parametrize("shard", ["pipe:cat a.tar", "https://host/a.tar"])
def test_a_stream_is_no_path(shard: str) -> None:
    assert is_stream(shard)
    with pytest.raises(ValueError, match="cannot be indexed"):
        expand_paths(shard)


def test_naming_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no shards are named"):
        expand_braces([])
