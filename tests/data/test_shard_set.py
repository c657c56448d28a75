from __future__ import annotations

import logging
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from lightning_r1v3.data.shard_set import ShardSet

Members = list[tuple[str, bytes]]
Make = Callable[..., Members]
Shard = Callable[..., Path]


@pytest.fixture
def bad(sample: Make, record: Callable[..., bytes], encode: Callable[..., bytes]) -> dict[str, Members]:
    """One sample `x` of each bad kind that shows only when it is read."""
    return {
        "invalid JSON": [("x.json", b"{'id'"), ("x.0.png", encode())],
        "missing <image>": [("x.json", record()), ("x.0.png", encode()), ("x.1.png", encode())],
        "extra <image>": [("x.json", record(question="<image>" * 3)), ("x.0.png", encode()), ("x.1.png", encode())],
        "missing image: the question": [("x.json", record())],
        "missing image: there is no x.0": [("x.json", record()), ("x.1.png", encode())],
        "undecodable image": [("x.json", record()), ("x.0.png", encode()[:30])],
        "exceeds max_image_pixels=100": [("x.json", record()), ("x.0.png", encode((11, 10)))],
        "answer not among the choices": sample("x", choices=["1", "2"], answer="3"),
    }


REASONS = [
    "invalid JSON",
    "missing <image>",
    "extra <image>",
    "missing image: the question",
    "missing image: there is no x.0",
    "undecodable image",
    "exceeds max_image_pixels=100",
    "answer not among the choices",
]


@pytest.mark.parametrize("reason", REASONS)
def test_skip_names_the_sample_once_and_loses_no_other(
    bad: dict[str, Members], reason: str, sample: Make, shard: Shard, caplog: pytest.LogCaptureFixture
) -> None:
    path = shard([*sample("a"), *bad[reason], *sample("z")])
    shards = ShardSet(str(path), max_image_pixels=100)
    for _ in range(2):
        assert [read and read.id for read in map(shards.__getitem__, range(3))] == ["a", None, "z"]
    assert [r.getMessage() for r in caplog.records if f"{path}: x: " in r.getMessage() and reason in r.getMessage()]
    assert len(caplog.records) == shards.num_bad == 1


@pytest.mark.parametrize("reason", REASONS)
def test_raise_names_shard_key_and_reason(bad: dict[str, Members], reason: str, sample: Make, shard: Shard) -> None:
    path = shard([*sample("a"), *bad[reason]])
    shards = ShardSet(str(path), on_bad_sample="raise", max_image_pixels=100)
    assert shards[0]
    for _ in range(2):
        with pytest.raises(ValueError, match=f"{path}: x: .*{reason}"):
            shards[1]


def test_domains_are_read_without_the_pictures(sample: Make, shard: Shard, encode: Callable[..., bytes]) -> None:
    unreadable = [("x.0.png", encode()), ("x.json", b"{'id'")]
    odd = sample("y", domain=3)
    path = shard([*sample("a", domain="law"), *unreadable, *odd, *sample("b"), *sample("c", domain="music")])
    assert ShardSet(str(path)).field("domain") == ["law", "", "", "", "music"]


@pytest.mark.parametrize(("name", "reason"), [("x.pkl", "never decoded"), ("../x.json", "leaves the shard")])
def test_a_refused_member_is_named_when_the_set_is_built(
    name: str, reason: str, sample: Make, shard: Shard, caplog: pytest.LogCaptureFixture
) -> None:
    path = shard([*sample("a"), (name, b"cos\nsystem\n")])
    assert len(ShardSet(str(path))) == 1
    assert reason in caplog.text
    with pytest.raises(ValueError, match=reason):
        ShardSet(str(path), on_bad_sample="raise")


def test_a_cut_shard_keeps_its_whole_samples_and_the_next_shard(sample: Make, shard: Shard) -> None:
    cut, whole = shard([*sample("a"), *sample("b")], "0.tar"), shard(sample("c"), "1.tar")
    cut.write_bytes(cut.read_bytes()[: 7 * 512 + 10])  # inside the picture of b
    shards = ShardSet([str(cut), str(whole)])
    assert [shards[number].id for number in range(len(shards))] == ["a", "c"]  # type: ignore[union-attr]
    assert shards.num_bad == 1


def test_no_file_outside_is_touched(sample: Make, shard: Shard, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    shard([*sample("a"), ("../escaped.json", b"{}"), ("/tmp/escaped.0.png", b"")], "shards/0.tar")
    ShardSet(f"{tmp_path}/shards/*.tar")[0]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0.tar", "shards"]


def test_no_pickle_is_ever_loaded(sample: Make, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shard([*sample("a"), ("a.pkl", pickle.dumps(1)), ("a.pyd", pickle.dumps(1))])
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("a pickle was loaded"))
    assert ShardSet(str(path))[0]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_share_the_count(sample: Make, shard: Shard, context: str) -> None:
    path = shard([*sample("a"), *sample("x", answer=""), *sample("y", answer=""), *sample("z")])
    shards = ShardSet(str(path))
    loader = DataLoader(
        shards,
        batch_size=1,
        num_workers=2,
        multiprocessing_context=multiprocessing.get_context(context),
        collate_fn=_first,
    )
    assert [read and read.id for read in loader] == ["a", None, None, "z"]
    assert shards.num_bad == 2


def _first(batch: list[object]) -> object:
    return batch[0]


def test_shards_without_any_sample_are_an_error(shard: Shard) -> None:
    with pytest.raises(ValueError, match="no readable sample"):
        ShardSet(str(shard([])))


def test_an_unknown_policy_is_an_error(sample: Make, shard: Shard) -> None:
    with pytest.raises(ValueError, match="on_bad_sample must be one of"):
        ShardSet(str(shard(sample("a"))), on_bad_sample="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [-1, 1])
def test_a_number_outside_is_an_index_error(sample: Make, shard: Shard, number: int) -> None:
    with pytest.raises(IndexError):
        ShardSet(str(shard(sample("a"))))[number]


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
