from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tiny import Tiny, examples, token_id
from torch import Tensor

from lightning_r1v3.backbone.packing import pack_groups
from lightning_r1v3.rollout.draws import ban_bias
from lightning_r1v3.rollout.local import LocalEngine
from lightning_r1v3.types import Example, RolloutBatch, Sampling

SAMPLING = Sampling(group_size=3, max_new_tokens=40, temperature=2.0)


def prompts_of(tiny: Tiny) -> list[Example]:
    return examples(tiny.preprocessor())


def engine(tiny: Tiny, **settings: int) -> LocalEngine:
    """Of a model that likes to end its turn, so that completions have unequal lengths."""
    backbone = tiny.backbone(random_weights=False)
    with torch.no_grad():
        backbone.model.lm_head.weight.mul_(0.2)
        backbone.model.lm_head.weight[token_id("<|im_end|>")] *= 40
    return LocalEngine(backbone, **settings)


def completions(rollouts: RolloutBatch) -> list[Tensor]:
    return [ids[mask] for ids, mask in zip(rollouts.token_ids, rollouts.mask, strict=True)]


def learner_logprobs(
    local: LocalEngine, tiny: Tiny, prompts: Sequence[Example], rollouts: RolloutBatch, sampling: Sampling
) -> Tensor:
    drawn = completions(rollouts)
    size = sampling.group_size
    grouped = [drawn[i * size : (i + 1) * size] for i in range(len(prompts))]
    ((members, row),) = pack_groups(prompts, grouped, max_tokens=10_000, blank=tiny.preprocessor().blank)
    backbone = local.backbone
    bias = ban_bias(backbone.processor, backbone.model.lm_head.weight.shape[0], sampling.banned_strings)
    with torch.no_grad():
        scored = backbone(row, temperature=sampling.temperature, logit_bias=bias).logprobs
    by_member = dict(zip(members, scored.split([len(drawn[i]) for i in members]), strict=True))
    return torch.cat([by_member[i] for i in range(len(drawn))])


def test_sampled_logprobs_are_the_learners(any_family: Tiny) -> None:
    local, prompts = engine(any_family), prompts_of(any_family)
    rollouts = local.generate(prompts, SAMPLING, step=0)
    lengths = rollouts.mask.sum(dim=1)
    assert lengths.unique().numel() > 3
    expected = learner_logprobs(local, any_family, prompts, rollouts, SAMPLING)
    torch.testing.assert_close(rollouts.logprobs[rollouts.mask], expected, rtol=1e-5, atol=1e-5)


def test_a_prompts_completions_do_not_depend_on_what_is_drawn_beside_them(any_family: Tiny) -> None:
    local, prompts = engine(any_family), prompts_of(any_family)
    together = completions(local.generate(prompts, SAMPLING, step=3))
    alone = [c for prompt in prompts for c in completions(local.generate([prompt], SAMPLING, step=3))]
    in_turns = completions(engine(any_family, max_completions=4).generate(prompts, SAMPLING, step=3))
    for first, second, third in zip(together, alone, in_turns, strict=True):
        assert first.tolist() == second.tolist() == third.tolist()


def test_another_step_draws_anew(internvl: Tiny) -> None:
    local, prompts = engine(internvl), prompts_of(internvl)
    first, again, other = (local.generate(prompts, SAMPLING, step=step).token_ids for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_what_is_beyond_a_completion_is_zero(internvl: Tiny) -> None:
    rollouts = engine(internvl).generate(prompts_of(internvl), SAMPLING, step=0)
    assert not rollouts.token_ids[~rollouts.mask].any()
    assert not rollouts.logprobs[~rollouts.mask].any()
    assert rollouts.mask.any(dim=0).all()


def test_the_end_of_turn_stops_and_the_limit_truncates(internvl: Tiny) -> None:
    short = Sampling(group_size=8, max_new_tokens=5, temperature=2.0)
    rollouts = engine(internvl).generate(prompts_of(internvl), short, step=0)
    end = token_id("<|im_end|>")
    assert set(rollouts.finish_reason) == {"stop", "length"}
    for ids, reason in zip(completions(rollouts), rollouts.finish_reason, strict=True):
        assert (ids == end).sum() == (reason == "stop")
        assert (ids[-1] == end) == (reason == "stop")
        assert reason == "stop" or len(ids) == short.max_new_tokens


def test_one_token_is_enough(internvl: Tiny) -> None:
    rollouts = engine(internvl).generate(prompts_of(internvl), Sampling(max_new_tokens=1), step=0)
    assert rollouts.token_ids.shape == (4, 1)


def test_ended_completions_leave(internvl: Tiny) -> None:
    local = engine(internvl)
    widths = []
    layer = local.backbone.model.model.language_model.layers[0]
    layer.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[1]))
    local.generate(prompts_of(internvl), SAMPLING, step=0)
    steps = widths[1:]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] <= 4 * SAMPLING.group_size
    assert steps[-1] < steps[0]


def test_banned_tokens_are_never_drawn(internvl: Tiny) -> None:
    local = engine(internvl)
    sampling = Sampling(group_size=16, max_new_tokens=32, temperature=50.0, banned_strings=("a", "e"))
    rollouts = local.generate(prompts_of(internvl), sampling, step=0)
    tokenizer = local.backbone.processor.tokenizer
    ids = set(rollouts.token_ids[rollouts.mask].tolist())
    assert len(ids) > 100
    assert max(ids) < len(tokenizer)
    assert ids & set(tokenizer.all_special_ids) <= {tokenizer.eos_token_id}
    assert not any(letter in tokenizer.decode([i]) for i in ids for letter in "ae")


def test_banned_draws_score_the_same_in_the_learner(internvl: Tiny) -> None:
    local, prompts = engine(internvl), prompts_of(internvl)
    sampling = Sampling(group_size=2, max_new_tokens=20, banned_strings=("a", "e"))
    rollouts = local.generate(prompts, sampling, step=0)
    expected = learner_logprobs(local, internvl, prompts, rollouts, sampling)
    torch.testing.assert_close(rollouts.logprobs[rollouts.mask], expected, rtol=1e-5, atol=1e-5)


def test_a_tiny_top_p_is_greedy(internvl: Tiny) -> None:
    greedy = Sampling(group_size=2, max_new_tokens=6, top_p=1e-6)
    rollouts = engine(internvl).generate(prompts_of(internvl), greedy, step=0)
    assert torch.equal(rollouts.token_ids[0::2], rollouts.token_ids[1::2])
    assert rollouts.logprobs[rollouts.mask].eq(0).all()


def test_the_mode_of_the_model_is_left_as_it_was(internvl: Tiny) -> None:
    backbone = internvl.backbone(gradient_checkpointing=True)
    LocalEngine(backbone).generate(prompts_of(internvl), Sampling(max_new_tokens=2), step=0)
    assert all(module.training for module in backbone.modules())
    backbone.eval()
    LocalEngine(backbone).generate(prompts_of(internvl), Sampling(max_new_tokens=2), step=0)
    assert not any(module.training for module in backbone.modules())


def test_no_prompt_is_an_error(internvl: Tiny) -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        engine(internvl).generate([], SAMPLING, step=0)
