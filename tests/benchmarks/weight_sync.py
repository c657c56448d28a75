"""A sync of a real vLLM server over gloo against one flat broadcast of the same bytes.

The model has 200 M parameters, all of which are sent, between two processes of this machine. `transfer` is the way of
the weights over gloo alone: packed into buckets, sent, received. `held` is how long the trainer waits: the
weights are on their way, to a server that the trainer started by shared memory, to one given by its address over gloo.
`ready` goes on until the server has loaded them, reset its caches and takes requests. `token` is
what a prompt's first token takes then, against one of a server at rest whose caches are as empty (ratio of the two):
vLLM lays the weights out for its kernels meanwhile. Needs vLLM.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from report import report

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.data.mini import generate
from lightning_r1v3.data.preprocess import Preprocessor
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.rollout.buckets import TensorSpec, filled, own_memories, plan_buckets
from lightning_r1v3.rollout.gloo_group import SENDER, GlooGroup, open_store
from lightning_r1v3.rollout.server_client import ServerClient
from lightning_r1v3.rollout.server_settings import ServerSettings
from lightning_r1v3.rollout.token_guard import TOKEN_VARIABLE
from lightning_r1v3.rollout.vllm_engine import VLLMEngine
from lightning_r1v3.types import Example, Sampling

BASE = Path(__file__).parents[2] / "data_shards" / "mini" / "base"
LANGUAGE: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 12,
    "layer_types": ["full_attention"] * 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
}
SEED = 0
NUM_WARMUP_PAIRS, NUM_PAIRS = 3, 9
ONE_TOKEN = Sampling(group_size=1, max_new_tokens=1)
PAUSE_S = 2.0
"""For what a server does once it answers: vLLM lays the weights out for its kernels."""
WAYS = ("transfer", "held", "ready")
MAX_RATIO = 1.5
HOST, TIMEOUT_S = "127.0.0.1", 600.0


class Peer:
    """A process that only receives: all bytes in one broadcast, or in buckets."""

    def __init__(self, source: list[tuple[str, torch.Tensor]]) -> None:
        self.source = source
        self.buckets = plan_buckets(TensorSpec(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in source)
        sizes = [bucket.num_bytes for bucket in self.buckets]
        self.memories = own_memories(self.buckets)
        self.flat = torch.cat([buffer.clone() for buffer in filled(self.buckets, self.memories, source)])
        store, port = open_store(HOST, timeout_s=TIMEOUT_S)
        command = [sys.executable, __file__, "--receive", json.dumps(sizes), "--port", str(port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.group = GlooGroup(store, HOST, rank=0, world_size=2, timeout_s=TIMEOUT_S)

    def seconds(self) -> dict[str, float]:
        return {
            "flat": self._seconds(lambda: broadcast(self.group, self.flat)),
            "transfer": self._seconds(lambda: self.group.send(filled(self.buckets, self.memories, self.source))),
        }

    def close(self) -> None:
        """Lets the process end, which until then keeps its memory: to free it would take time from the last round."""
        self.process.communicate()

    def _seconds(self, send: Callable[[], None]) -> float:
        assert self.process.stdout is not None
        start = time.perf_counter()
        send()
        self.process.stdout.readline()  # all has arrived
        return time.perf_counter() - start


def broadcast(group: GlooGroup, flat: torch.Tensor) -> None:
    """As torch.distributed.broadcast does it."""
    group._group.broadcast(flat, SENDER).wait()


def receive(sizes: list[int], port: int) -> None:
    group = GlooGroup.join(HOST, port, rank=1, world_size=2, timeout_s=TIMEOUT_S)
    flat = torch.zeros(sum(sizes), dtype=torch.uint8)
    for _ in range(NUM_WARMUP_PAIRS + NUM_PAIRS):
        broadcast(group, flat)
        print("arrived", flush=True)
        for work in group.receive(flat.split(sizes)):
            work.wait()
        print("arrived", flush=True)
    sys.stdin.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receive", type=json.loads, help="sizes of the buckets: be the side that receives")
    parser.add_argument("--port", type=int)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.receive:
        receive(arguments.receive, arguments.port)
        return
    report("weight_sync", measure(), seed=SEED)


def measure() -> dict[str, Any]:
    """Returns the figures."""
    torch.manual_seed(SEED)
    os.environ[TOKEN_VARIABLE] = secrets.token_urlsafe()
    overrides = {f"text_config.{name}": value for name, value in LANGUAGE.items()}
    backbone = Backbone.from_config(BackboneConfig(str(BASE), random_weights=True, overrides=overrides))
    engine = VLLMEngine(servers=ServerSettings(options={"max_model_len": 1024}))
    try:
        shared = ways(engine, backbone)
        sent = ways(VLLMEngine(servers=ServerSettings(urls=engine.server_urls)), backbone)
    finally:
        engine.close()
    return {
        "parameters": sum(parameter.numel() for parameter in backbone.model.parameters()),
        "shared_memory": shared,
        "gloo": sent,
    }


def ways(engine: VLLMEngine, backbone: Backbone) -> dict[str, Any]:
    """Returns the figures of one way to the server."""
    (sample,) = generate("train", 1, seed=SEED)
    prompt = Preprocessor(backbone.processor, PromptFormat(system_prompt=None))(sample)
    assert prompt is not None
    rounds = []
    peer = Peer([(name, p.detach()) for name, p in backbone.model.named_parameters()])
    for number in range(NUM_WARMUP_PAIRS + NUM_PAIRS):  # the first one may start the server
        seconds = peer.seconds()
        start = time.perf_counter()
        synced = engine.sync(backbone, policy_version=number)
        assert engine._broadcast is not None, "sync opens it"
        engine._broadcast.wait()
        ready = time.perf_counter() - start
        token = first_token_seconds(engine, prompt, step=number)
        time.sleep(PAUSE_S)
        for url in engine.server_urls:
            ServerClient(url, os.environ[TOKEN_VARIABLE], timeout_s=TIMEOUT_S).reset_caches()
        at_rest = first_token_seconds(engine, prompt, step=number)
        rounds.append(seconds | {"held": synced.seconds, "ready": ready, "token": token, "token_at_rest": at_rest})
    peer.close()
    rounds = rounds[NUM_WARMUP_PAIRS:]
    ratios = {way: statistics.median(each[way] / each["flat"] for each in rounds) for way in WAYS}
    return {
        "bytes": synced.num_bytes,
        "time_ratio": {way: round(ratio, 3) for way, ratio in ratios.items()},
        "token_ratio": round(statistics.median(each["token"] / each["token_at_rest"] for each in rounds), 3),
        "seconds": {name: [round(each[name], 3) for each in rounds] for name in rounds[0]},
        "met": ratios["ready"] <= MAX_RATIO,
    }


def first_token_seconds(engine: VLLMEngine, prompt: Example, *, step: int) -> float:
    start = time.perf_counter()
    engine.generate([prompt], ONE_TOKEN, step=step)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
