"""What a run hands off is served by a real vLLM with the trainer's own log-probabilities."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from served_policy import SAMPLING, Policy, backbone

from lightning_r1v3.backbone.config import Lora
from lightning_r1v3.rollout.errors import ServerError
from lightning_r1v3.rollout.server_client import ServerClient
from lightning_r1v3.rollout.server_process import ServerProcess
from lightning_r1v3.rollout.server_settings import ServerSettings
from lightning_r1v3.rollout.vllm_engine import VLLMEngine
from lightning_r1v3.rollout.wire import Wire, join
from lightning_r1v3.types import RolloutBatch

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: there is no wheel for this machine"),
]

GROUPS = ["vision_tower", "connector", "language_model"]
TOKEN = "secret"


def wait_for(server: ServerProcess, client: ServerClient, deadline: float) -> str:
    """The version of the weights that the server began with, once it answers."""
    while True:
        try:
            return client.weight_version()
        except ServerError:
            server.check(deadline)
            time.sleep(0.5)


def served(policy: Policy, folder: Path) -> RolloutBatch:
    """What a server of the folder draws for the policy's prompts."""
    settings = ServerSettings(options={"max_model_len": 1024, "load_format": "safetensors"})
    arguments = settings.arguments(str(folder), dtype="float32", transfer="gloo")
    server = ServerProcess(arguments, token=TOKEN, environment={})
    try:
        deadline = time.monotonic() + 600
        client = ServerClient(server.wait_for_address(deadline), TOKEN, timeout_s=120)
        version = wait_for(server, client, deadline)
        model = policy.backbone.model
        wire = Wire(
            policy.backbone.processor,
            vocabulary=model.get_output_embeddings().weight.shape[0],
            image_token_id=model.config.image_token_id,
        )
        replies = [client.generate(wire.request(prompt, SAMPLING, step=0), timeout_s=240) for prompt in policy.prompts]
        drawn = [
            wire.completions(reply, prompt, weight_version=version)
            for reply, prompt in zip(replies, policy.prompts, strict=True)
        ]
        return join(drawn, policy_version=0)
    finally:
        server.kill()


@pytest.mark.parametrize(
    "lora",
    [
        pytest.param(None, marks=pytest.mark.soak, id="full"),
        pytest.param(Lora(groups=GROUPS), marks=pytest.mark.soak, id="lora"),
        pytest.param(Lora(quantize="nf4"), id="qlora"),
    ],
)
def test_an_export_is_served_as_it_was_trained(lora: Lora | None, tmp_path: Path) -> None:
    policy = Policy(backbone(lora=lora), VLLMEngine())
    policy.change()
    policy.backbone.export(tmp_path / "hf")
    assert policy.gap(served(policy, tmp_path / "hf")) <= 1e-4
