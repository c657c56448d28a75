from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightning_r1v3.modules import run_folder
from lightning_r1v3.modules.run_folder import ContinuedCSVLogger, find_checkpoint, keep_earlier_run


def checkpoints(folder: Path, *names: str) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    for age, name in enumerate(names):
        path = folder / "checkpoints" / name
        path.touch()
        os.utime(path, (age, age))


def log(folder: Path, step: int, **values: float) -> None:
    logger = ContinuedCSVLogger(str(folder), "run", version="")
    logger.log_metrics(values, step)
    logger.save()


def test_an_earlier_run_is_renamed(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / str(number)).touch()
        keep_earlier_run(tmp_path / "run")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("run.*/*")) == [
        "run.1/0",
        "run.2/1",
        "run.3/2",
    ]


def test_an_empty_folder_is_no_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    keep_earlier_run(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_last_is_the_checkpoint_written_last(tmp_path: Path) -> None:
    checkpoints(tmp_path, "step=9.ckpt", "step=10.ckpt")
    assert find_checkpoint("last", tmp_path) == str(tmp_path / "checkpoints/step=10.ckpt")


def test_a_half_written_checkpoint_is_never_the_last(tmp_path: Path) -> None:
    checkpoints(tmp_path, "step=1.ckpt", "step=2.ckpt.partial", "step=3.ckpt.partial")
    assert find_checkpoint("last", tmp_path) == str(tmp_path / "checkpoints/step=1.ckpt")


def test_a_link_to_a_checkpoint_that_is_gone_is_never_the_last(tmp_path: Path) -> None:
    checkpoints(tmp_path, "step=1.ckpt")
    (tmp_path / "checkpoints/last.ckpt").symlink_to("step=0.ckpt")
    assert find_checkpoint("last", tmp_path) == str(tmp_path / "checkpoints/step=1.ckpt")


def test_a_missing_checkpoint_is_refused_with_those_there_are(tmp_path: Path) -> None:
    checkpoints(tmp_path, "step=9.ckpt")
    with pytest.raises(ValueError, match=r"no such file; .*/checkpoints holds step=9\.ckpt"):
        find_checkpoint("step=8.ckpt", tmp_path)


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_metrics_of_a_resumed_run_follow_the_earlier_ones(tmp_path: Path) -> None:
    log(tmp_path, 0, loss=2.0)
    log(tmp_path, 1, loss=1.0, accuracy=0.5)
    assert (tmp_path / "run/metrics.csv").read_text().splitlines() == ["accuracy,loss,step", ",2.0,0", "0.5,1.0,1"]


def test_both_loggers_write_to_the_run_folder() -> None:
    for folder in (run_folder.RUNS / "sft", run_folder.RUNS / "seed1/sft"):
        assert {Path(logger.log_dir) for logger in run_folder.run_loggers(folder)} == {folder}
