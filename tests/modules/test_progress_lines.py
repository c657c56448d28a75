from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lightning_r1v3.modules import progress_lines
from lightning_r1v3.modules.progress_lines import ProgressLines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress_lines.time, "monotonic", lambda: clock.now)
    return clock


def steps(lines: ProgressLines, clock: SimpleNamespace, *, count: int, done: int = 0, seconds: float) -> None:
    loop: Any = SimpleNamespace(total_batch_idx=done - 1)
    trainer: Any = SimpleNamespace(
        fit_loop=loop, estimated_stepping_batches=done + count, current_epoch=1, progress_bar_metrics={"loss": 0.5},
        loggers=[],
    )  # fmt: skip
    lines.on_train_start(trainer, None)  # type: ignore[arg-type]
    for _ in range(count):
        loop.total_batch_idx += 1
        clock.now += seconds
        lines.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]


def test_a_line_comes_every_so_often_and_at_the_end(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        steps(ProgressLines(interval_s=10), clock, count=25, seconds=1)
    assert [record.message for record in caplog.records] == [
        "step 10/25, 1.00 s a step, 0:00:15 left, epoch 1, loss 0.5",
        "step 20/25, 1.00 s a step, 0:00:05 left, epoch 1, loss 0.5",
        "step 25/25, 1.00 s a step, 0:00:00 left, epoch 1, loss 0.5",
    ]


def test_a_resumed_run_counts_on_but_measures_its_own_speed(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        steps(ProgressLines(), clock, count=2, done=100, seconds=2)
    assert [record.message.split(", epoch")[0] for record in caplog.records] == [
        "step 102/102, 2.00 s a step, 0:00:00 left"
    ]


def test_other_ranks_say_nothing(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    lines = ProgressLines()
    lines.disable()
    with caplog.at_level("INFO"):
        steps(lines, clock, count=2, seconds=100)
    assert not caplog.records
