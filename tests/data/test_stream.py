from __future__ import annotations

import http.server
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from lightning_r1v3.data.batches import SampleBatch
from lightning_r1v3.data.faults import Fault
from lightning_r1v3.data.stream import ShardStream
from lightning_r1v3.data.stream_reader import read_stream
from lightning_r1v3.types import Sample

Make = Callable[..., list[tuple[str, bytes]]]
Shard = Callable[..., Path]


def read(url: str) -> tuple[list[str], list[Fault]]:
    entries = list(read_stream(url, 100))
    return [e.id for e in entries if isinstance(e, Sample)], [e for e in entries if isinstance(e, Fault)]


def ids(batches: Iterator[SampleBatch]) -> list[list[str]]:
    return [[sample.id for sample in batch.samples] for batch in batches]


@pytest.fixture
def pipes(shard: Shard, sample: Make) -> list[str]:
    return [f"pipe:cat {shard([*sample(f'{s}a'), *sample(f'{s}b')], f'{s}.tar')}" for s in range(4)]


def test_a_pipe_is_read(pipes: list[str]) -> None:
    assert read(pipes[0]) == (["0a", "0b"], [])


@pytest.mark.skipif(shutil.which("curl") is None, reason="URLs are opened with curl, which is not installed")
def test_a_url_is_read(shard: Shard, sample: Make, tmp_path: Path) -> None:
    shard(sample("a"), "0.tar")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert read(f"http://127.0.0.1:{server.server_port}/0.tar") == (["a"], [])
        server.shutdown()


def test_bad_samples_and_members_are_named_and_the_others_stay(shard: Shard, sample: Make) -> None:
    path = shard([*sample("a"), *sample("x", answer=""), ("y.pkl", b""), ("../z.json", b"{}"), *sample("b")])
    good, faults = read(f"pipe:cat {path}")
    assert good == ["a", "b"]
    assert {fault.key for fault in faults} == {"x", "y", "../z"}


def test_wherever_a_stream_is_cut_the_whole_samples_come_and_the_cut_is_named(shard: Shard, sample: Make) -> None:
    content = shard([*sample("a"), *sample("b")]).read_bytes()
    end_of_a = 3 * 512 + len(sample("a")[1][1])  # two headers and the record's block come before its picture
    cut = shard([], "cut.tar")
    for size in range(0, 4096, 128):
        cut.write_bytes(content[:size])
        good, faults = read(str(cut))
        assert good in (["a", "b"][:n] for n in range(3))
        assert faults, f"nothing says that the stream is cut at byte {size}"
        assert (good[:1] == ["a"]) == (size >= end_of_a)


def test_a_member_that_stands_twice_spoils_its_own_sample_only(shard: Shard, sample: Make) -> None:
    good, faults = read(str(shard([*sample("a"), *sample("a"), *sample("b")])))
    assert good == ["b"]
    assert [fault.key for fault in faults] == ["a"]


def test_a_failing_command_is_named() -> None:
    good, faults = read("pipe:false")
    assert not good
    assert "cannot be read" in faults[0].reason


def test_batches_count_on_past_the_end_of_the_shards(pipes: list[str]) -> None:
    stream = ShardStream(pipes[:1], batch_size=1, batches_per_epoch=3)
    assert [(batch.samples[0].id, batch.epoch, batch.cursor) for batch in stream] == [
        ("0a", 0, 1),
        ("0b", 0, 2),
        ("0a", 0, 3),
    ]
    assert len(stream) == 3


def test_ranks_read_different_shards(pipes: list[str]) -> None:
    read = [
        ids(iter(ShardStream(pipes, batch_size=4, batches_per_epoch=2, rank=rank, world_size=2))) for rank in (0, 1)
    ]
    assert sorted(key for rank in read for batch in rank for key in batch) == sorted(
        f"{s}{k}" for s in range(4) for k in "ab"
    )


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("trained", [0, 1, 2, 5])
def test_a_resumed_epoch_goes_on_exactly(pipes: list[str], num_workers: int, trained: int) -> None:
    def epoch(cursor: int) -> list[list[str]]:
        stream = ShardStream(pipes, batch_size=2, batches_per_epoch=5, seed=3)
        stream.resume(1, cursor)
        stream.set_epoch(1)
        return ids(iter(DataLoader(stream, batch_size=None, num_workers=num_workers)))

    assert epoch(2 * trained) == epoch(0)[trained:]


def test_each_epoch_has_its_own_order(pipes: list[str]) -> None:
    stream = ShardStream(pipes, batch_size=8, batches_per_epoch=1)
    first = ids(iter(stream))
    stream.set_epoch(1)
    assert ids(iter(stream)) != first


def test_the_log_says_how_far_a_resume_is_exact(pipes: list[str], caplog: pytest.LogCaptureFixture) -> None:
    ShardStream(pipes, batch_size=1, batches_per_epoch=1)
    assert "only at the same world size and number of workers" in caplog.text


def test_skip_counts_a_bad_sample_once_over_passes_and_workers(shard: Shard, sample: Make) -> None:
    paths = [str(shard([*sample("a"), *sample("x", answer="")], f"{s}.tar")) for s in range(2)]
    stream = ShardStream(paths, batch_size=1, batches_per_epoch=8)
    assert len(list(DataLoader(stream, batch_size=None, num_workers=2))) == 8
    assert stream.num_bad == 2


def test_raise_stops(shard: Shard, sample: Make) -> None:
    path = shard([*sample("x", answer="")])
    with pytest.raises(ValueError, match=f"{path}: x: answer is empty"):
        list(ShardStream(str(path), batch_size=1, batches_per_epoch=1, on_bad_sample="raise"))


def test_shards_without_a_good_sample_end_with_an_error(shard: Shard, sample: Make) -> None:
    stream = ShardStream(str(shard(sample("x", answer=""))), batch_size=1, batches_per_epoch=1)
    with pytest.raises(ValueError, match="no readable sample"):
        list(stream)


def test_fewer_shards_than_processes_are_refused(pipes: list[str]) -> None:
    with pytest.raises(ValueError, match="4 shards cannot feed 5 processes"):
        ShardStream(pipes, batch_size=5, batches_per_epoch=1, world_size=5)


def test_a_cursor_between_batches_is_refused(pipes: list[str]) -> None:
    with pytest.raises(ValueError, match="cannot resume a stream at cursor 3"):
        ShardStream(pipes, batch_size=2, batches_per_epoch=2).resume(0, 3)


@pytest.mark.parametrize(("batch_size", "rank"), [(0, 0), (3, 0), (2, 2)])
def test_numbers_out_of_range_are_refused(pipes: list[str], batch_size: int, rank: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= rank"):
        ShardStream(pipes, batch_size=batch_size, batches_per_epoch=1, rank=rank, world_size=2)


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
