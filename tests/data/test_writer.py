from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_r1v3.data.shard_set import ShardSet
from lightning_r1v3.data.writer import ShardWriter

RECORD = {"id": "7", "question": "<image> Q", "answer": "3"}


def write(folder: Path, encode: Callable[..., bytes], count: int = 5, **options: int) -> list[Path]:
    with ShardWriter(folder, "t", **options) as writer:
        for number in range(count):
            writer.write({**RECORD, "id": str(number)}, [encode(image_format="JPEG")])
    return sorted(folder.glob("*.tar"))


def test_what_is_written_is_read(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    paths = write(tmp_path, encode, max_samples=2)
    assert [path.name for path in paths] == ["t-000000.tar", "t-000001.tar", "t-000002.tar"]
    shards = ShardSet(f"{tmp_path}/t-*.tar", on_bad_sample="raise")
    assert [shards[n].id for n in range(len(shards))] == list("01234")  # type: ignore[union-attr]


def test_a_shard_is_closed_at_its_size(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    assert len(write(tmp_path, encode, max_bytes=1)) == 5


def test_the_bytes_are_the_same_every_time(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    first, second = (write(tmp_path / name, encode)[0].read_bytes() for name in "ab")
    assert first == second


def test_the_manifest_has_counts_and_hashes(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    (path,) = write(tmp_path, encode)
    manifest = json.loads((tmp_path / "MANIFEST.json").read_text())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest["t"] == {
        "samples": 5,
        "images": 5,
        "multiple_choice": 0,
        "with_response": 0,
        "sha256": {"t-000000.tar": sha256},
    }


def test_the_manifest_keeps_other_sets(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    write(tmp_path, encode)
    with ShardWriter(tmp_path, "u") as writer:
        writer.write({"question": "Q", "answer": "3"}, [])
    assert set(json.loads((tmp_path / "MANIFEST.json").read_text())) == {"t", "u"}


def test_a_sample_round_trips(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    write(tmp_path / "a", encode, count=1)
    sample = ShardSet(f"{tmp_path}/a/*.tar")[0]
    assert sample is not None
    with ShardWriter(tmp_path / "b", "t") as writer:
        writer.write_sample(sample)
    again = ShardSet(f"{tmp_path}/b/*.tar")[0]
    assert again is not None
    assert again.images[0].tobytes() == sample.images[0].tobytes()
    assert (again.id, again.question, again.answer) == (sample.id, sample.question, sample.answer)


def test_a_bad_sample_is_refused_and_nothing_of_it_written(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    with ShardWriter(tmp_path, "t") as writer:
        with pytest.raises(ValueError, match="answer is empty"):
            writer.write({**RECORD, "answer": ""}, [encode()])
        writer.write(RECORD, [encode()])
    assert len(ShardSet(f"{tmp_path}/*.tar")) == 1


def test_nothing_is_left_when_writing_fails(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    with pytest.raises(RuntimeError), ShardWriter(tmp_path, "t") as writer:  # noqa: PT012 - the context must end by it
        writer.write(RECORD, [encode()])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_shards_that_are_there_are_not_overwritten(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    write(tmp_path, encode)
    with pytest.raises(ValueError, match="exists: remove"):
        ShardWriter(tmp_path, "t")


def test_a_bound_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ShardWriter(tmp_path, "t", max_samples=0)
