from __future__ import annotations

import csv
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from plain_text import PlainText, trainer

from r1v3_callbacks import CheckpointRanker

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]


class Scores(Callback):
    """Logs one given accuracy after the other."""

    def __init__(self, values: Sequence[float]) -> None:
        self.values = iter(values)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.log("score", next(self.values))


def fit(folder: Path, scores: Sequence[float], resume: Path | None = None, **settings: Any) -> CheckpointRanker:
    ranker = CheckpointRanker(**({"weights": {"score": 1.0}, "top_k": 2, "entropy": "epoch_nr"} | settings))
    run = trainer(folder, [Scores(scores), ranker], max_epochs=len(scores) + (1 if resume else 0))
    run.fit(PlainText(), ckpt_path=resume)
    return ranker


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "ranked").iterdir()}


def test_the_best_and_the_last_are_kept(tmp_path: Path) -> None:
    fit(tmp_path, [0.1, 0.9, 0.3, 0.8, 0.2])
    kept = {"step=000004.ckpt", "step=000008.ckpt", "step=000010.ckpt"}
    assert files(tmp_path) == kept | {"best.ckpt", "last.ckpt", "ranking.csv"}
    assert (tmp_path / "ranked/best.ckpt").resolve().name == "step=000004.ckpt"
    assert torch.load(tmp_path / "ranked/last.ckpt", weights_only=True)["global_step"] == 10
    with (tmp_path / "ranked/ranking.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["step"]), float(row["score"]), row["kept"]) for row in rows] == [
        (4, pytest.approx(0.9), "1"),
        (8, pytest.approx(0.8), "1"),
        (6, pytest.approx(0.3), "0"),
        (10, pytest.approx(0.2), "1"),
        (2, pytest.approx(0.1), "0"),
    ]


def test_a_score_that_is_no_number_never_drives_out_a_good_one(tmp_path: Path) -> None:
    fit(tmp_path, [0.5, float("nan"), float("nan")], top_k=1)
    assert (tmp_path / "ranked/best.ckpt").resolve().name == "step=000002.ckpt"
    assert (tmp_path / "ranked/last.ckpt").resolve().name == "step=000006.ckpt"


def test_a_resumed_run_knows_the_earlier_checkpoints(tmp_path: Path) -> None:
    fit(tmp_path, [0.9, 0.1])
    ranker = fit(tmp_path, [0.3, 0.2], resume=tmp_path / "ranked/last.ckpt")
    assert [(entry.step, entry.kept) for entry in ranker.ranking.entries] == [(2, True), (4, False), (6, True)]
    assert (tmp_path / "ranked/best.ckpt").resolve().name == "step=000002.ckpt"


def test_by_steps_it_needs_no_validation(tmp_path: Path) -> None:
    ranker = CheckpointRanker(weights={"val/accuracy": 1.0}, every_n_steps=1)
    run = trainer(tmp_path, [ranker], max_epochs=2)
    with pytest.raises(ValueError, match=r"val/accuracy.*there are"):
        run.fit(PlainText())


@pytest.fixture
def small_disk() -> Iterator[Any]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Full(Callback):
        """From the third epoch on no file may be as long as a checkpoint."""

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))

    yield Full()
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_older_ones_intact(
    tmp_path: Path, small_disk: Callback, caplog: pytest.LogCaptureFixture
) -> None:
    ranker = CheckpointRanker(weights={"score": 1.0}, top_k=1)
    run = trainer(tmp_path, [small_disk, Scores([0.5, 0.4, 0.9]), ranker], max_epochs=3, logger=False,
                  default_root_dir=str(tmp_path))  # fmt: skip
    run.fit(PlainText())
    assert run.global_step == 6
    assert "was not written" in caplog.text
    assert files(tmp_path) == {"step=000002.ckpt", "step=000004.ckpt", "best.ckpt", "last.ckpt", "ranking.csv"}
    assert torch.load(tmp_path / "ranked/best.ckpt", weights_only=True)["global_step"] == 2
    assert torch.load(tmp_path / "ranked/last.ckpt", weights_only=True)["global_step"] == 4


@pytest.mark.parametrize("bad", [{"top_k": 0}, {"weights": {}}, {"dirpath": "s3://bucket/x"}, {"every_n_steps": 0}])
def test_bad_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        CheckpointRanker(**bad)
