from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny import UNKNOWN_IDS, token_id, tokenizer
from torch import Tensor

from lightning_r1v3.rollout.draws import BAN, ban_bias, draw, uniforms
from lightning_r1v3.types import Example, Sample, Sampling

PROBABILITIES = torch.tensor([0.1, 0.2, 0.4, 0.3])


def prompt(name: str, source: str = "") -> Example:
    none = torch.empty(0, dtype=torch.int64)
    return Example(Sample(name, "", (), "", source=source), none, none)


def drawn(uniform: list[float], top_p: float = 1.0) -> tuple[list[int], Tensor]:
    logits = PROBABILITIES.log().expand(len(uniform), -1)
    tokens, logprobs = draw(logits, torch.tensor(uniform, dtype=torch.float64), top_p=top_p)
    return tokens.tolist(), logprobs.exp()


def test_a_number_is_looked_up_in_the_cumulated_distribution() -> None:
    tokens, probabilities = drawn([0.0, 0.05, 0.15, 0.5, 0.75, 1 - 2**-53])
    assert tokens == [0, 0, 1, 2, 3, 3]
    torch.testing.assert_close(probabilities, PROBABILITIES[[0, 0, 1, 2, 3, 3]])


def test_top_p_draws_from_the_smallest_set_with_the_mass() -> None:
    tokens, probabilities = drawn([0.0, 0.5, 0.99], top_p=0.6)
    assert tokens == [2, 2, 3]
    torch.testing.assert_close(probabilities, torch.tensor([4 / 7, 4 / 7, 3 / 7]))


def test_a_small_top_p_keeps_the_likeliest() -> None:
    assert drawn([0.0, 0.99], top_p=1e-6)[0] == [2, 2]


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_a_banned_token_is_never_drawn(uniform: float) -> None:
    logits = torch.tensor([[BAN, 0.0, 1.0, BAN]])
    tokens, _ = draw(logits, torch.tensor([uniform], dtype=torch.float64))
    assert tokens.item() in {1, 2}


def test_frequencies_are_the_probabilities() -> None:
    uniform = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tokens, _ = draw(PROBABILITIES.log().expand(len(uniform), -1), uniform)
    torch.testing.assert_close(tokens.bincount() / len(uniform), PROBABILITIES, rtol=0, atol=0.01)


def test_numbers_depend_on_the_prompt_and_not_on_its_company() -> None:
    sampling = Sampling(group_size=2, max_new_tokens=3)
    together = uniforms([prompt("a"), prompt("b")], sampling, step=1)
    assert torch.equal(together[2:], uniforms([prompt("b")], sampling, step=1))
    assert together.unique().numel() == 12


@pytest.mark.parametrize("other", [{"step": 2}, {"seed": 1}, {"source": "elsewhere"}], ids=["step", "seed", "source"])
def test_step_seed_and_source_change_the_numbers(other: dict[str, object]) -> None:
    def numbers(step: int = 1, seed: int = 0, source: str = "") -> Tensor:
        return uniforms([prompt("a", source)], Sampling(seed=seed, max_new_tokens=3), step=step)

    assert not torch.equal(numbers(), numbers(**other))


def test_specials_but_the_end_of_turn_and_unknown_ids_are_banned() -> None:
    size = len(tokenizer())
    bias = ban_bias(SimpleNamespace(tokenizer=tokenizer()), size + UNKNOWN_IDS)
    banned = set(bias.nonzero()[:, 0].tolist())
    assert set(range(size, size + UNKNOWN_IDS)) <= banned
    assert {token_id(token) for token in ("<IMG_CONTEXT>", "<|im_start|>", "<image>", "<|image_pad|>")} <= banned
    assert token_id("<|im_end|>") not in banned
    assert token_id("</think>") not in banned
    assert bias.isfinite().all()


def test_tokens_that_hold_a_banned_string_are_banned() -> None:
    bias = ban_bias(SimpleNamespace(tokenizer=tokenizer()), len(tokenizer()), ["Wait"])
    newly = (bias != ban_bias(SimpleNamespace(tokenizer=tokenizer()), len(tokenizer()))).nonzero()[:, 0].tolist()
    assert newly
    assert all("Wait" in tokenizer().decode([token]) for token in newly)
