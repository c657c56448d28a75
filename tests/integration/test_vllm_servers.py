"""Real vLLM servers as a test starts and ends them itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from served_policy import BASE, NEEDS_VLLM, OPTIONS, PATIENCE, Policy, backbone

from lightning_r1v3.rollout.server_settings import ServerSettings
from lightning_r1v3.rollout.vllm_engine import VLLMEngine

pytestmark = NEEDS_VLLM

TOLERANCE = 1e-4


@pytest.mark.soak
def test_two_servers_share_the_prompts_and_a_killed_one_is_replaced() -> None:
    policy = Policy(backbone(), VLLMEngine(servers=ServerSettings(count=2, options=OPTIONS), patience=PATIENCE))
    try:
        policy.sync()
        expected = policy.draw()
        assert policy.gap(expected) <= TOLERANCE
        os.killpg(policy.engine.server_pids[0], signal.SIGKILL)
        assert torch.equal(policy.draw().token_ids, expected.token_ids)
        assert len(policy.engine.server_pids) == 2
    finally:
        policy.engine.close()


@pytest.mark.soak
def test_a_server_beside_the_trainer_follows_it() -> None:
    engine = VLLMEngine(mode="colocate", servers=ServerSettings(options=OPTIONS), patience=PATIENCE)
    policy = Policy(backbone(), engine, version=50)
    try:
        for _ in range(2):
            policy.sync()
            assert policy.gap(policy.draw()) <= TOLERANCE
            policy.change()
    finally:
        engine.close()


TRAINER = """
import sys, time
from lightning_r1v3.rollout.server_process import ServerProcess

server = ServerProcess(sys.argv[1:], token="secret", environment={})
server.wait_for_address(time.monotonic() + 300)
print(server.process.pid, flush=True)
time.sleep(600)
"""


def test_servers_do_not_outlive_a_killed_trainer() -> None:
    options = ["--model", str(BASE), "--dtype", "float32"]
    trainer = subprocess.Popen([sys.executable, "-c", TRAINER, *options], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    server = psutil.Process(int(trainer.stdout.readline()))
    while len(children := server.children(recursive=True)) < 3:  # the engine's own processes
        time.sleep(0.2)
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    assert psutil.wait_procs([server, *children], timeout=120)[1] == []
