from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightning_r1v3.data.convert import main, parse_fields
from lightning_r1v3.data.shard_set import ShardSet
from lightning_r1v3.types import Sample

GOOD = {"id": "a", "question": "Q", "answer": "3", "image": "p.png"}


@pytest.fixture
def folder(tmp_path: Path, encode: Callable[..., bytes]) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "p.png").write_bytes(encode())
    (tmp_path / "secret.png").write_bytes(encode())
    return tmp_path


def run(folder: Path, *options: str, name: str = "rows.jsonl") -> int:
    return main([str(folder / name), "--images", str(folder / "images"), "--out", str(folder / "out"), *options])


def write(folder: Path, *rows: object) -> None:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / "rows.jsonl").write_text("\n".join(lines))


def converted(folder: Path) -> list[Sample]:
    shards = ShardSet(f"{folder}/out/*.tar", on_bad_sample="raise")
    return [sample for sample in map(shards.__getitem__, range(len(shards))) if sample]


def test_jsonl_rows_become_samples(folder: Path) -> None:
    write(folder, GOOD, "", {"question": "1 + 2?", "answer": 3})
    assert run(folder) == 0
    with_image, without = converted(folder)
    assert (with_image.id, with_image.question, len(with_image.images)) == ("a", "<image>\nQ", 1)
    assert (without.id, without.answer, without.images) == ("rows-000003", "3", ())


def test_fields_are_renamed(folder: Path) -> None:
    write(folder, {"problem": "Q", "gold": "3", "files": ["p.png", "p.png"]})
    assert run(folder, "--field", "question=problem", "--field", "answer=gold", "--field", "images=files") == 0
    assert [(s.question, len(s.images)) for s in converted(folder)] == [("<image>\n<image>\nQ", 2)]


def test_options_may_be_a_mapping_and_the_answer_their_text(folder: Path) -> None:
    write(folder, {**GOOD, "choices": {"B": "3", "A": "2"}}, {**GOOD, "choices": [2, 3], "answer": 3})
    assert run(folder) == 0
    assert [(s.choices, s.answer) for s in converted(folder)] == [(("2", "3"), "B")] * 2


def test_every_bad_row_is_named_and_the_others_are_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = {
        "invalid JSON": "{",
        "answer is empty": {**GOOD, "answer": " "},
        "answer must be text": {"question": "Q", "image": "p.png"},
        "missing image": {**GOOD, "image": "absent.png"},
        "leaves the image folder": {**GOOD, "image": "../secret.png"},
        "leaves the image folder: not read": {**GOOD, "image": str(folder / "secret.png")},
        "without a gap": {**GOOD, "choices": {"A": "1", "C": "2"}},
        "a path or have bytes": {**GOOD, "image": 7},
    }
    write(folder, GOOD, *bad.values(), GOOD)
    assert run(folder) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"2 samples written to {folder}/out, 8 bad rows left out"
    for number, (reason, line) in enumerate(zip(bad, lines, strict=False), 2):
        assert f"rows.jsonl: row {number}: " in line
        assert reason in line
    assert len(converted(folder)) == 2


def test_a_link_out_of_the_folder_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "images" / "link.png").symlink_to(folder / "secret.png")
    write(folder, GOOD, {**GOOD, "image": "link.png"})
    assert run(folder) == 1
    assert "leaves the image folder" in capsys.readouterr().out


def test_parquet_with_inline_images_is_read(folder: Path, encode: Callable[..., bytes]) -> None:
    rows = [
        {**GOOD, "image": {"bytes": encode((5, 5)), "path": "elsewhere.png"}, "choices": None},
        {**GOOD, "image": {"bytes": None, "path": "p.png"}, "choices": ["3", "4"]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    assert run(folder, name="rows.parquet") == 0
    inline, by_path = converted(folder)
    assert (inline.images[0].size, inline.choices) == ((5, 5), None)
    assert (by_path.images[0].size, by_path.choices, by_path.answer) == ((4, 3), ("3", "4"), "A")


@pytest.mark.parametrize(
    ("name", "content"), [("rows.csv", b""), ("rows.parquet", b"no parquet"), ("absent.jsonl", None)]
)
def test_a_file_that_cannot_be_read_gives_status_2(folder: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(SystemExit, match="2"):
        run(folder, name=name)
    assert list((folder / "out").iterdir()) == []


@pytest.mark.parametrize("pair", ["question", "question=", "quest=problem"])
def test_a_field_that_is_no_pair_is_an_error(pair: str) -> None:
    with pytest.raises(ValueError, match="expected OURS=THEIRS"):
        parse_fields([pair])
