"""What only a CUDA device can show; the tiny model is enough for it."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from lightning import Trainer

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.backbone.packed_layout import PackedLayout
from lightning_r1v3.backbone.packing import pack_examples, pack_groups
from lightning_r1v3.data.datamodule import ShardDataModule, Source
from lightning_r1v3.data.mini import generate
from lightning_r1v3.data.preprocess import Preprocessor
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.modules import GRPO, SFT
from lightning_r1v3.objectives.token_stats import linear_logprob_entropy
from lightning_r1v3.rollout.draws import ban_bias
from lightning_r1v3.rollout.local import LocalEngine
from lightning_r1v3.strategy import VLMFSDPStrategy
from lightning_r1v3.types import Example, Sampling, Segment

pytestmark = [
    pytest.mark.gpu,
    # What Lightning and the libraries below it say about themselves.
    pytest.mark.filterwarnings("ignore"),
]

ROOT = Path(__file__).parents[2]
BASE = str(ROOT / "data_shards/mini/base")
PROMPT = PromptFormat(system_prompt=None)
SAMPLING = Sampling(group_size=4, max_new_tokens=24)
needs_flash_attention = pytest.mark.skipif(find_spec("flash_attn") is None, reason="flash-attn is not installed")


def backbone(**settings: object) -> Backbone:
    return Backbone.from_config(BackboneConfig(BASE, **settings), device_type="cuda").to("cuda")


def prepared(policy: Backbone) -> tuple[list[Example], Example]:
    """Some prompts with their answers, and the blank picture."""
    preprocessor = Preprocessor(policy.processor, PROMPT)
    made = [preprocessor(sample) for sample in generate("train", 4, seed=0)]
    return [example for example in made if example is not None], preprocessor.blank


def shards(kind: str, batch_size: int) -> ShardDataModule:
    train = [Source(str(ROOT / f"data_shards/mini/{kind}-*.tar"))]
    return ShardDataModule(BASE, train, prompt=PROMPT, batch_size=batch_size, max_tokens=512)


def trainer(folder: Path, **settings: object) -> Trainer:
    return Trainer(
        accelerator="gpu",
        devices=1,
        max_steps=3,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        **settings,
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.15)])
def test_the_device_scores_as_the_processor_does(dtype: str, tolerance: float) -> None:
    reference = Backbone.from_config(BackboneConfig(BASE, dtype="float32"))
    examples, blank = prepared(reference)
    ((_, row),) = pack_examples(examples, max_tokens=10_000, blank=blank)
    with torch.no_grad():
        expected = reference(row)
        stats = backbone(dtype=dtype)(row.to("cuda"))
    torch.testing.assert_close(stats.logprobs.cpu(), expected.logprobs, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(stats.entropy.cpu(), expected.entropy, rtol=tolerance, atol=tolerance)


def test_the_fused_pass_never_holds_the_logits() -> None:
    hidden = torch.randn(4096, 256, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(151_674, 256, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    targets = torch.randint(len(weight), (len(hidden),), device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    logprobs, entropy = linear_logprob_entropy(hidden, weight, targets)
    (logprobs.sum() + entropy.sum()).backward()
    all_logits = len(hidden) * len(weight) * 4
    assert torch.cuda.max_memory_allocated() - before < all_logits / 3


@needs_flash_attention
def test_flash_attention_is_sdpa_in_a_packed_row() -> None:
    segments = (Segment(0, 40), Segment(40, 9, 0), Segment(49, 17, 0), Segment(66, 30), Segment(96, 5, 3))
    generator = torch.Generator("cuda").manual_seed(0)
    query, key, value = (
        torch.randn(101, heads, 64, device="cuda", dtype=torch.bfloat16, generator=generator) for heads in (8, 2, 2)
    )
    expected = PackedLayout(segments).attend(0, query, key, value, 0.125)
    out = PackedLayout(segments, flash=True).attend(0, query, key, value, 0.125)
    torch.testing.assert_close(out, expected, rtol=0.02, atol=0.02)


def test_what_the_device_draws_is_what_the_learner_scores() -> None:
    policy = backbone(dtype="float32")
    prompts, blank = prepared(policy)
    rollouts = LocalEngine(policy).generate(prompts, SAMPLING, step=0)
    drawn = [ids[mask].cpu() for ids, mask in zip(rollouts.token_ids, rollouts.mask, strict=True)]
    size = SAMPLING.group_size
    groups = [drawn[i * size : (i + 1) * size] for i in range(len(prompts))]
    ((members, row),) = pack_groups(prompts, groups, max_tokens=100_000, blank=blank)
    bias = ban_bias(policy.processor, policy.model.get_output_embeddings().weight.shape[0])
    with torch.no_grad():
        learner = policy(row.to("cuda"), logit_bias=bias.cuda()).logprobs
    engine = torch.cat([rollouts.logprobs[index][rollouts.mask[index]] for index in members])
    torch.testing.assert_close(engine, learner, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_sharded_run_trains_in_bfloat16(tmp_path: Path, compiled: bool) -> None:
    module = SFT(backbone=BackboneConfig(BASE, dtype="float32"), optimizer=partial(torch.optim.AdamW, lr=1e-3))
    strategy = VLMFSDPStrategy(compile_blocks=compiled)
    fit = trainer(tmp_path, strategy=strategy, limit_val_batches=0)
    fit.fit(module, shards("sft", 8))
    assert module.num_skipped_steps == 0
    assert fit.global_step == 3
    assert module.model.compute_dtype == torch.bfloat16


def test_an_episode_runs_with_an_optimizer_of_eight_bits(tmp_path: Path) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    optimizer = partial(bitsandbytes.optim.AdamW8bit, lr=1e-5)
    module = GRPO(SAMPLING, backbone=BackboneConfig(BASE), optimizer=optimizer)
    fit = trainer(tmp_path, limit_val_batches=0)
    fit.fit(module, shards("rl", 4))
    assert fit.global_step == 3


@pytest.mark.timeout(900)
def test_a_server_on_the_same_device_follows_the_trainer() -> None:
    pytest.importorskip("vllm")
    from lightning_r1v3.rollout.server_settings import ServerSettings  # noqa: PLC0415
    from lightning_r1v3.rollout.vllm_engine import VLLMEngine  # noqa: PLC0415

    policy = backbone(dtype="bfloat16")
    prompts, _ = prepared(policy)
    options = {"max_model_len": 1024, "gpu_memory_utilization": 0.3}
    engine = VLLMEngine(mode="colocate", servers=ServerSettings(options=options))
    try:
        for version in range(2):
            assert engine.sync(policy, policy_version=version).num_bytes
            assert engine.generate(prompts, SAMPLING, step=0).policy_version == version
            with torch.no_grad():
                for parameter in policy.parameters():
                    parameter.mul_(1.01)
    finally:
        engine.close()
