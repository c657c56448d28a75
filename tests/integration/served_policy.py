"""A policy with the engine that draws for it from a real vLLM server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.backbone.packing import pack_groups
from lightning_r1v3.data.mini import generate
from lightning_r1v3.data.preprocess import Preprocessor
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.rollout.draws import ban_bias
from lightning_r1v3.rollout.server_settings import Patience
from lightning_r1v3.rollout.vllm_engine import VLLMEngine
from lightning_r1v3.types import Example, RolloutBatch, Sampling

NEEDS_VLLM = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: there is no wheel for this machine"),
    # vLLM's imports.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
"""Marks of tests with a real server."""
BASE = Path(__file__).parents[2] / "data_shards" / "mini" / "base"
SAMPLING = Sampling(group_size=3, max_new_tokens=40)
PATIENCE = Patience(request_s=240, probe_s=60)
LEAST_SPREAD = 0.02
"""Of a parameter that begins as zeros."""
OPTIONS = {"max_model_len": 1024, "served_model_name": "tiny"}


def backbone(**settings: Any) -> Backbone:
    return Backbone.from_config(BackboneConfig(str(BASE), dtype="float32", **settings))


@dataclass
class Policy:
    """A policy, some prompts for it, and the engine that draws for it."""

    backbone: Backbone
    engine: VLLMEngine
    version: int = 0

    def __post_init__(self) -> None:
        self.preprocessor = Preprocessor(self.backbone.processor, PromptFormat(system_prompt=None))
        made = [self.preprocessor(sample) for sample in generate("train", 4, seed=0)]
        self.prompts: list[Example] = [replace(prompt, think_opened=True) for prompt in made if prompt is not None]

    def sync(self) -> int:
        return self.engine.sync(self.backbone, policy_version=self.version).num_bytes

    def take_back(self) -> None:
        """Syncs servers that another trainer had, and waits until they answer: yet another one may be next."""
        self.sync()
        self.draw()

    @property
    def urls(self) -> tuple[str, ...]:
        return self.engine.server_urls

    def draw(self, sampling: Sampling = SAMPLING, *, step: int = 0) -> RolloutBatch:
        return self.engine.generate(self.prompts, sampling, step=step)

    def change(self, group: str | None = None) -> None:
        """Moves what trains of a module group, or of all three, and the version."""
        groups = self.backbone.named_groups()
        generator = torch.Generator().manual_seed(self.version)
        with torch.no_grad():
            for _, parameter in [named for name in groups if group in {None, name} for named in groups[name]]:
                if parameter.requires_grad:
                    spread = max(float(parameter.std(correction=0)), LEAST_SPREAD)
                    parameter.add_(0.1 * spread * torch.randn(parameter.shape, generator=generator))
        self.version += 1

    def gap(self, rollouts: RolloutBatch, sampling: Sampling = SAMPLING) -> float:
        """Largest difference between the engine's log-probabilities and the learner's."""
        size = sampling.group_size
        drawn = [ids[mask] for ids, mask in zip(rollouts.token_ids, rollouts.mask, strict=True)]
        groups = [drawn[i * size : (i + 1) * size] for i in range(len(self.prompts))]
        ((members, row),) = pack_groups(self.prompts, groups, max_tokens=100_000, blank=self.preprocessor.blank)
        bias = ban_bias(self.backbone.processor, self.backbone.model.lm_head.weight.shape[0], sampling.banned_strings)
        with torch.no_grad():
            learner = self.backbone(row, temperature=sampling.temperature, logit_bias=bias).logprobs
        theirs = [rollouts.logprobs[index][rollouts.mask[index]] for index in members]
        return float((learner - torch.cat(theirs)).abs().max())
