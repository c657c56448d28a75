from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_r1v3.data.verify import main

Make = Callable[..., list[tuple[str, bytes]]]
Shard = Callable[..., Path]


@pytest.fixture
def good(shard: Shard, sample: Make, record: Callable[..., bytes], encode: Callable[..., bytes]) -> Path:
    choice = sample("b", choices=["2", "3"], answer="B", response="…</think>3", domain="d", difficulty="hard")
    wide = [("c.json", record(id="c", source="s")), ("c.0.png", encode((13, 3), "RGBA"))]
    return shard([*sample("a"), *choice, *wide])


def test_it_counts_what_the_shards_hold(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(good), "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert (counted["shards"], counted["samples"], counted["bad"]) == (1, 3, [])
    assert counted["domain"] == {"(none)": 2, "d": 1}
    assert counted["difficulty"] == {"(none)": 2, "hard": 1}
    assert counted["answer_type"] == {"fill-in": 2, "multiple choice": 1}
    assert counted["response"] == {"without": 2, "with": 1}
    assert counted["image_mode"] == {"RGB": 2, "RGBA": 1}
    assert counted["image_size"]["width"] == {"min": 4, "median": 4, "max": 13}
    assert counted["duplicates"] == {"same id": [], "same question and pictures": []}


def test_it_names_duplicates(shard: Shard, sample: Make, capsys: pytest.CaptureFixture[str]) -> None:
    first = shard([*sample("a"), *sample("b")], "0.tar")
    second = shard(sample("a", question="<image> Another?"), "1.tar")
    assert main([str(first), str(second), "--json"]) == 0
    duplicates = json.loads(capsys.readouterr().out)["duplicates"]
    assert duplicates["same id"] == [[f"{first}: a", f"{second}: a"]]
    assert duplicates["same question and pictures"] == [[f"{first}: a", f"{first}: b"]]


def test_it_names_every_bad_sample_and_fails(shard: Shard, sample: Make, capsys: pytest.CaptureFixture[str]) -> None:
    path = shard([*sample("a"), *sample("x", answer=""), ("y.pkl", b""), *sample("z", choices=["1", "2"])])
    assert main([str(path)]) == 1
    text = capsys.readouterr().out
    assert "1 good samples in 1 shards, 3 bad" in text
    assert f"{path}: x: answer is empty" in text
    assert f"{path}: y: member 'y.pkl'" in text
    assert f"{path}: z: answer not among the choices" in text


def test_a_shard_of_nothing_but_faults_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.tar").write_bytes(b"nothing")
    assert main([str(tmp_path / "no.tar")]) == 1
    assert "0 good samples in 1 shards, 1 bad" in capsys.readouterr().out


def test_the_text_is_aligned(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(good)])
    text = capsys.readouterr().out
    assert "answer type\n  fill-in                2\n  multiple choice        1\n" in text


@pytest.mark.parametrize("arguments", [["nowhere-*.tar"], ["https://host/a.tar"], ["a.tar", "--max-image-pixels", "0"]])
def test_arguments_that_do_not_fit_give_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
