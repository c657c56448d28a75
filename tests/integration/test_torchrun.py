from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from processes import launch, said
from sharded_runs import metric, write_configs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

NUM_STEPS, NUM_NODES, PATIENCE_S = 5, 2, 600.0
MARK = "LIGHTNING_R1V3_TEST_LAUNCH"
"""In the environment of an agent, and so of its workers: those that are left are known by it."""

Torchrun = Callable[..., Path]


@pytest.fixture(scope="module")
def one_process(workplace: Path) -> Callable[..., Path]:
    write_configs(workplace)

    def run(stage: str, *options: str) -> Path:
        line = ["fit", "-c", f"{stage}.yaml", f"--name={stage}.one", f"--trainer.max_steps={NUM_STEPS}", *options]
        assert launch(workplace, line, processes=1) == [0], said(workplace)
        return workplace / f"runs/{stage}.one"

    return run


@pytest.fixture(scope="module")
def torchrun(workplace: Path) -> Torchrun:
    """Runs a stage on two nodes, an agent each, as on two machines."""

    def run(stage: str, *options: str) -> Path:
        line = f"""
            -m torch.distributed.run --nnodes={NUM_NODES} --nproc-per-node=1 --rdzv-backend=c10d
            --rdzv-endpoint=localhost:{free_port()} --rdzv-id={stage} -m lightning_r1v3 fit -c {stage}.yaml -c fsdp.yaml
            --name={stage}.nodes --trainer.num_nodes={NUM_NODES} --trainer.devices=1 --trainer.max_steps={NUM_STEPS}
        """
        logs = [workplace / f"{stage}.node{node}.log" for node in range(NUM_NODES)]
        with launched_agents([sys.executable, *line.split(), *options], workplace, logs) as agents:
            codes = [agent.wait(PATIENCE_S) for agent in agents]
        assert codes == [0] * NUM_NODES, "\n".join(log.read_text() for log in logs)
        return workplace / f"runs/{stage}.nodes"

    return run


@contextmanager
def launched_agents(line: list[str], workplace: Path, logs: list[Path]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Starts one agent per log; whatever happens, no process of the launch outlives this."""
    mark = uuid.uuid4().hex
    paths = [str(workplace), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    settings = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", MARK: mark}
    start = partial(subprocess.Popen, line, cwd=workplace, env=os.environ | settings, stderr=subprocess.STDOUT)
    agents = []
    try:
        for log in logs:
            with log.open("wb") as output:
                agents.append(start(stdout=output))
        yield agents
    finally:
        while left := marked(mark):
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left)
        for agent in agents:
            agent.wait()


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return int(listener.getsockname()[1])


def test_two_nodes_fine_tune_as_one_process_does(one_process: Callable[..., Path], torchrun: Torchrun) -> None:
    one, two = one_process("sft"), torchrun("sft")
    for name in ("train/loss", "train/grad_norm", "train/entropy"):
        assert len(metric(one, name)) == NUM_STEPS
        assert metric(two, name) == pytest.approx(metric(one, name), rel=1e-4), name


def test_two_nodes_reinforce_as_one_process_does(one_process: Callable[..., Path], torchrun: Torchrun) -> None:
    one = one_process("grpo", "--model.engine=stand_ins.Recorder")
    two = torchrun("grpo", "--model.engine=stand_ins.Replay")
    for name in ("train/loss", "train/grad_norm", "train/entropy", "rollout/logprob_gap"):
        assert len(metric(one, name)) == NUM_STEPS
        assert metric(two, name) == pytest.approx(metric(one, name), rel=1e-4, abs=1e-6), name
