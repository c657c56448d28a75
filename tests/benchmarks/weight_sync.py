"""A sync of a real vLLM server over gloo against one flat broadcast of the same bytes.

The model has 200 M parameters, all of which are sent. Both ways go between two processes of this machine; the sync
includes that vLLM loads what arrives, resets its caches and answers. Needs vLLM.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from report import report

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.rollout.gloo_group import GlooGroup, open_store
from lightning_r1v3.rollout.server_settings import ServerSettings
from lightning_r1v3.rollout.vllm_engine import VLLMEngine

BASE = Path(__file__).parents[2] / "data_shards" / "mini" / "base"
LANGUAGE: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 12,
    "layer_types": ["full_attention"] * 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
}
NUM_PAIRS = 7
MAX_RATIO = 1.5
HOST, TIMEOUT_S = "127.0.0.1", 600.0


class FlatBroadcast:
    """One tensor for everything, to a process that only receives it."""

    def __init__(self, num_bytes: int) -> None:
        self.buffer = torch.zeros(num_bytes, dtype=torch.uint8)
        store, port = open_store(HOST, timeout_s=TIMEOUT_S)
        command = [sys.executable, __file__, "--receive", str(num_bytes), "--port", str(port)]
        self.receiver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.group = GlooGroup(store, HOST, rank=0, world_size=2, timeout_s=TIMEOUT_S)

    def seconds(self) -> float:
        assert self.receiver.stdout is not None
        start = time.perf_counter()
        self.group.broadcast(self.buffer).wait()
        self.receiver.stdout.readline()  # it has arrived
        return time.perf_counter() - start


def receive(num_bytes: int, port: int) -> None:
    group = GlooGroup.join(HOST, port, rank=1, world_size=2, timeout_s=TIMEOUT_S)
    buffer = torch.empty(num_bytes, dtype=torch.uint8)
    for _ in range(NUM_PAIRS + 1):
        group.broadcast(buffer).wait()
        print("arrived", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receive", type=int, help="bytes: be the other side of the flat broadcast")
    parser.add_argument("--port", type=int)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.receive:
        receive(arguments.receive, arguments.port)
        return
    overrides = {f"text_config.{name}": value for name, value in LANGUAGE.items()}
    backbone = Backbone.from_config(BackboneConfig(str(BASE), random_weights=True, overrides=overrides))
    engine = VLLMEngine(servers=ServerSettings(options={"max_model_len": 256}))
    try:
        num_bytes = engine.sync(backbone).num_bytes  # starts the server, and warms up
        flat = FlatBroadcast(num_bytes)
        flat.seconds()
        pairs = [
            {"flat": flat.seconds(), "sync": engine.sync(backbone, policy_version=number).seconds}
            for number in range(1, NUM_PAIRS + 1)
        ]
        flat.receiver.communicate()
    finally:
        engine.close()
    ratio = statistics.median(pair["sync"] / pair["flat"] for pair in pairs)
    figures = {
        "parameters": sum(parameter.numel() for parameter in backbone.model.parameters()),
        "bytes": num_bytes,
        "time_ratio": round(ratio, 3),
        "seconds": {name: [round(pair[name], 3) for pair in pairs] for name in ("flat", "sync")},
        "gigabytes_per_second": round(num_bytes / 1e9 / statistics.median(pair["sync"] for pair in pairs), 2),
        "met": ratio <= MAX_RATIO,
    }
    report("weight_sync", figures, seed=0)


if __name__ == "__main__":
    main()
