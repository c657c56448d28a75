from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from lightning_r1v3.modules.stage_table import as_text, main, read_problems, training_seconds

ROOT = Path(__file__).parents[2]
VAL = str(ROOT / "data_shards/mini/val-*.tar")
DOMAINS = str(ROOT / "data_shards/mini/val_domains-*.tar")
COLUMNS = [
    "stage",
    "normal_accuracy",
    "hard_accuracy",
    "domains_accuracy",
    "format_rate",
    "length",
    "critical_token_entropy",
    "training_seconds",
]


def test_each_stage_that_is_there_gets_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "runs/table"
    stages = [f"base={ROOT / 'data_shards/mini/base'}", f"later={tmp_path / 'hf'}"]
    shards = ["--val", VAL, "--val-domains", DOMAINS]
    with caplog.at_level("INFO"):
        main([*stages, *shards, "--num-problems", "2", "--max-new-tokens", "6", "--out", str(out)])
    with out.with_suffix(".csv").open() as file:
        [row] = csv.DictReader(file)
    assert list(row) == COLUMNS
    assert row["stage"] == "base"
    assert 1 <= float(row["length"]) <= 6
    assert json.loads(out.with_suffix(".json").read_text())["settings"]["num_problems"] == 2
    assert capsys.readouterr().out.splitlines()[1].split() == COLUMNS
    assert "later: left out" in caplog.text
    assert caplog.text.count("accuracy on 2 completions") == 3


def test_without_any_stage_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="none of the stages"):
        main([f"sft={tmp_path}"])


def test_problems_are_the_first_of_their_difficulty() -> None:
    hard = read_problems(VAL, 3, "hard")
    assert [sample.id for sample in hard] == [f"val-hard-chain-3-{number:06d}" for number in range(3)]
    with pytest.raises(ValueError, match="no problem of difficulty 'easy'"):
        read_problems(DOMAINS, 3, "easy")


def test_the_time_of_a_stage_is_from_its_configuration_to_its_export(tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").touch()
    assert training_seconds(folder) is None
    (tmp_path / "config.yaml").touch()
    os.utime(tmp_path / "config.yaml", (1000, 1000))
    os.utime(folder / "config.json", (1090, 1090))
    assert training_seconds(folder) == 90


def test_columns_are_aligned() -> None:
    rows = [{"stage": "sft", "length": 90.5}, {"stage": "connector_tune", "length": None}]
    assert as_text(rows) == "stage           length\nsft               90.5\nconnector_tune        \n"
