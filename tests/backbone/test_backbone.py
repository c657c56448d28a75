from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from tiny import Tiny, completions, examples, gradients, relative_difference, stock_stats, with_completion, write_tiny
from torch import Tensor

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.backbone.packing import pack_examples, pack_groups
from lightning_r1v3.types import Example, TokenBatch

EXACT = 1e-5


def packed(tiny: Tiny, chosen: Sequence[Example] | None = None) -> tuple[list[Example], TokenBatch]:
    preprocessor = tiny.preprocessor()
    chosen = examples(preprocessor) if chosen is None else chosen
    (row,) = pack_examples(chosen, max_tokens=10_000, blank=preprocessor.blank)
    return row


def groups(tiny: Tiny) -> tuple[list[Example], TokenBatch]:
    """Three groups of unequal sizes and lengths in one row, and the same as plain sequences."""
    preprocessor = tiny.preprocessor()
    prompts = examples(preprocessor)[:3]
    drawn = [completions(4, seed=1), completions(2, seed=2), completions(3, seed=3)]
    ((members, row),) = pack_groups(prompts, drawn, max_tokens=10_000, blank=preprocessor.blank)
    sequences = [with_completion(prompt, each) for prompt, group in zip(prompts, drawn, strict=True) for each in group]
    return [sequences[member] for member in members], row


def loss(logprobs: Tensor, entropy: Tensor) -> Tensor:
    """Weighs every token differently, and the entropy as well."""
    weights = torch.linspace(0.5, 1.5, len(logprobs))
    return -(weights * logprobs).mean() + 0.1 * (weights.flip(0) * entropy).mean()


def assert_same_as_stock(tiny: Tiny, backbone: Backbone, sequences: list[Example], row: TokenBatch, stock: str) -> None:
    model = tiny.stock(stock)
    expected = stock_stats(model, sequences)
    stats = backbone(row)
    torch.testing.assert_close(stats.logprobs, expected[0], rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(stats.entropy, expected[1], rtol=EXACT, atol=EXACT)
    loss(stats.logprobs, stats.entropy).backward()
    loss(*expected).backward()
    assert relative_difference(gradients(backbone.model), gradients(model)) < EXACT


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_is_unpacked(any_family: Tiny, attention: str) -> None:
    assert_same_as_stock(any_family, any_family.backbone(), *packed(any_family), stock=attention)


def test_shared_prefix_is_the_repeated_forward(any_family: Tiny) -> None:
    assert_same_as_stock(any_family, any_family.backbone(), *groups(any_family), stock="sdpa")


def test_checkpointed_blocks_are_recomputed_exactly(any_family: Tiny) -> None:
    backbone = any_family.backbone(gradient_checkpointing=True)
    assert_same_as_stock(any_family, backbone, *groups(any_family), stock="sdpa")


def test_checkpointing_recomputes_every_block(internvl: Tiny) -> None:
    backbone = internvl.backbone(gradient_checkpointing=True)
    calls = []
    backbone.model.model.language_model.layers[1].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    backbone(packed(internvl)[1]).logprobs.sum().backward()
    assert len(calls) == 2


def test_a_text_only_row_runs_the_blank_and_is_exact(any_family: Tiny) -> None:
    text_only = [example for example in examples(any_family.preprocessor()) if not example.vision]
    sequences, row = packed(any_family, text_only)
    assert row.vision
    expected = stock_stats(any_family.stock(), sequences)
    stats = any_family.backbone()(row)
    torch.testing.assert_close(stats.logprobs, expected[0], rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("pictures", [True, False])
def test_every_trainable_parameter_gets_a_gradient(any_family: Tiny, pictures: bool) -> None:
    backbone = any_family.backbone()
    chosen = [e for e in examples(any_family.preprocessor()) if bool(e.vision) is pictures]
    backbone(packed(any_family, chosen)[1]).logprobs.sum().backward()
    without = [name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_the_blank_adds_nothing_to_the_gradient(internvl: Tiny) -> None:
    backbone = internvl.backbone()
    text_only = [example for example in examples(internvl.preprocessor()) if not example.vision]
    backbone(packed(internvl, text_only)[1]).logprobs.sum().backward()
    towers = [named for group, named in backbone.named_groups().items() if group != "language_model"]
    assert all(not p.grad.any() for named in towers for _, p in named)


def test_a_row_of_the_blank_alone_trains_nothing(any_family: Tiny) -> None:
    backbone = any_family.backbone()
    stats = backbone(packed(any_family, [])[1])
    assert stats.logprobs.shape == stats.entropy.shape == (0,)
    stats.logprobs.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in backbone.parameters() if p.requires_grad)


def test_temperature_and_bias_act_on_the_logits(internvl: Tiny) -> None:
    (example,) = examples(internvl.preprocessor())[:1]
    backbone = internvl.backbone()
    _, row = packed(internvl, [example])
    bias = torch.randn(backbone.model.lm_head.weight.shape[0])
    with torch.no_grad():
        plain = backbone(row)
        token_ids = torch.cat([example.prompt_ids, example.completion_ids])[None]
        logits = internvl.stock()(input_ids=token_ids, **example.vision).logits[0, len(example.prompt_ids) - 1 : -1]
        logps = ((logits + bias) / 0.7).log_softmax(dim=-1)
        stats = backbone(row, temperature=0.7, logit_bias=bias)
    assert not torch.allclose(stats.logprobs, plain.logprobs)
    torch.testing.assert_close(stats.logprobs, logps.gather(1, example.completion_ids[:, None])[:, 0])
    torch.testing.assert_close(stats.entropy, -(logps.exp() * logps).sum(dim=-1))


def test_as_many_key_as_query_heads_work_as_well(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny = write_tiny("internvl", tmp_path_factory.mktemp("heads"), num_key_value_heads=4)
    assert_same_as_stock(tiny, tiny.backbone(), *groups(tiny), stock="sdpa")


def test_what_else_stands_in_the_row_does_not_matter(tiny_of: Callable[[str], Tiny]) -> None:
    tiny = tiny_of("qwen2_5_vl")
    chosen = examples(tiny.preprocessor())
    backbone = tiny.backbone()
    with torch.no_grad():
        together = backbone(packed(tiny, chosen)[1])
        order, _ = packed(tiny, chosen)
        alone = torch.cat([backbone(packed(tiny, [example])[1]).logprobs for example in order])
    torch.testing.assert_close(together.logprobs, alone, rtol=EXACT, atol=EXACT)


def test_bfloat16_runs(any_family: Tiny) -> None:
    backbone = any_family.backbone(dtype="bfloat16")
    stats = backbone(packed(any_family)[1])
    assert stats.logprobs.dtype == torch.float32
    stats.logprobs.sum().backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.requires_grad)


def test_a_model_that_does_not_run_our_attention_is_refused(internvl: Tiny) -> None:
    backbone = internvl.backbone()
    backbone.model.set_attn_implementation("sdpa")
    with pytest.raises(AssertionError, match="runs sdpa"):
        Backbone(backbone.model, backbone.processor)


def test_flash_attention_is_refused_on_a_cpu(internvl: Tiny) -> None:
    with pytest.raises(ValueError, match=r"flash_attention_2 needs a CUDA device.*attention: auto or sdpa"):
        internvl.backbone(attention="flash_attention_2")
