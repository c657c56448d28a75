from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_r1v3.rewards import VerificationRequest, VerifierPool

# Passes every guard and would keep math-verify busy for minutes.
ENDLESS = VerificationRequest(r"\boxed{(x+y+5)^{12}(y+z)^{12}(a+b+c)^{12}}", "x^2+y")
RIGHT = VerificationRequest(r"\boxed{5}", "5")
WRONG = VerificationRequest(r"\boxed{6}", "5")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_verdicts_come_in_order(pool: VerifierPool) -> None:
    verdicts = pool.score([RIGHT, WRONG] * 20)
    assert [verdict.correct for verdict in verdicts] == [True, False] * 20


def test_plain_tuples_will_do(pool: VerifierPool) -> None:
    assert pool.score([("a</think>(B)", "B", ("cat", "dog"), True)])[0].correct


def test_nothing_to_score(pool: VerifierPool) -> None:
    assert pool.score([]) == []


def test_timeout_is_a_status_and_spares_the_others(pool: VerifierPool) -> None:
    started = time.monotonic()
    verdicts = pool.score([RIGHT, ENDLESS, RIGHT, RIGHT])
    assert [verdict.status for verdict in verdicts] == ["ok", "timeout", "ok", "ok"]
    assert [verdict.correct for verdict in verdicts] == [True, False, True, True]
    assert time.monotonic() - started < 10


def test_error_is_a_status(pool: VerifierPool, caplog: pytest.LogCaptureFixture) -> None:
    verdicts = pool.score([("5", ""), RIGHT])
    assert [verdict.status for verdict in verdicts] == ["error", "ok"]
    assert "gold answer" in caplog.text


def test_megabyte_is_cut_before_it_travels(pool: VerifierPool) -> None:
    verdict = pool.score([("x" * 1_000_000 + r"\boxed{5}", "5")])[0]
    assert verdict.correct


def test_killed_worker_is_replaced() -> None:
    with VerifierPool(num_workers=1) as pool:
        assert pool.score([RIGHT])[0].correct
        os.kill(pool.worker_pids[0], signal.SIGKILL)
        time.sleep(0.1)
        assert pool.score([RIGHT, RIGHT])[-1].correct


def test_workers_stay_warm_and_end_with_the_pool() -> None:
    with VerifierPool(num_workers=1) as pool:
        pool.score([RIGHT])
        pids = pool.worker_pids
        pool.score([RIGHT])
        assert pool.worker_pids == pids
    assert not any(map(_runs, pids))


def test_busy_worker_does_not_outlive_a_killed_parent() -> None:
    script = (
        "import threading\n"
        "from lightning_r1v3.rewards import VerifierPool\n"
        "pool = VerifierPool(num_workers=1, timeout_s=60)\n"
        "pool.score([(r'\\boxed{5}', '5')])\n"
        "print(pool.worker_pids[0], flush=True)\n"
        f"pool.score([({ENDLESS.completion!r}, {ENDLESS.answer!r})])\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


@pytest.mark.parametrize("argument", ["num_workers", "timeout_s", "start_timeout_s"])
def test_arguments_must_be_positive(argument: str) -> None:
    with pytest.raises(ValueError, match=argument):
        VerifierPool(**{argument: 0})
