from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from lightning_r1v3.modules.collect import collect_episode, score_rollouts
from lightning_r1v3.modules.episode import Episode, join_episodes
from lightning_r1v3.modules.overlong import Overlong
from lightning_r1v3.rewards.reward import RewardBatch
from lightning_r1v3.types import Example, RolloutBatch, Sample, Sampling

SAMPLING = Sampling(group_size=2, max_new_tokens=3)
ROLLOUTS = RolloutBatch(
    token_ids=torch.tensor([[5, 1, 0], [5, 5, 5]]),
    logprobs=torch.tensor([[-1.0, -2.0, 0.0], [-1.0, -1.0, -1.0]]),
    mask=torch.tensor([[True, True, False], [True, True, True]]),
    finish_reason=("stop", "length"),
    policy_version=7,
)


class Tokenizer:
    def decode(self, ids: torch.Tensor, *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return " ".join(map(str, ids.tolist()))


class PaysForLength:
    def score(self, completions: Sequence[str], samples: Sequence[Sample], *, think_opened: bool) -> RewardBatch:
        assert not think_opened
        right = torch.tensor([float(len(text.split())) for text in completions])
        return RewardBatch(right, right, right, ("ok",) * len(right), {"asked": len(right)})

    def close(self) -> None:
        pass


def problem(name: str) -> Example:
    return Example(Sample(name, "", (), ""), torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64))


def scored(name: str, *, equal: bool = False, overlong: Overlong | None = None) -> Episode:
    rollouts = replace(ROLLOUTS, mask=torch.ones(2, 3, dtype=torch.bool)) if equal else ROLLOUTS
    options = {"reward": PaysForLength(), "tokenizer": Tokenizer(), "overlong": overlong}
    return score_rollouts([problem(name)], rollouts, SAMPLING, **options)  # type: ignore[arg-type]


def collected(differs: Sequence[bool], num_groups: int) -> tuple[list[str], int, Episode]:
    def draw(prompts: Sequence[Example]) -> Episode:
        return join_episodes([scored(p.sample.id, equal=not differs[int(p.sample.id)]) for p in prompts])

    prompts = [problem(str(number)) for number in range(len(differs))]
    episode, num_drawn = collect_episode(prompts, num_groups, draw)
    return [prompt.sample.id for prompt in episode.prompts], num_drawn, episode


def test_completions_are_cut_to_their_length_and_compared_with_their_group() -> None:
    episode = scored("a")
    assert episode.texts == ("5 1", "5 5 5")
    assert [completion.tolist() for completion in episode.completions] == [[5, 1], [5, 5, 5]]
    assert [logprobs.tolist() for logprobs in episode.rollout_logprobs] == [[-1.0, -2.0], [-1.0, -1.0, -1.0]]
    assert episode.advantages.tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5], abs=1e-4)
    assert episode.truncated.tolist() == [False, True]
    assert episode.policy_version == 7


def test_the_overlong_filter_leaves_truncated_completions_out_of_the_loss_alone() -> None:
    filtered = scored("a", overlong=Overlong(filter=True))
    assert filtered.trained.tolist() == [True, False]
    assert torch.equal(filtered.advantages, scored("a").advantages)


def test_the_overlong_penalty_counts_in_the_advantages_and_not_in_the_logged_reward() -> None:
    penalised = scored("a", overlong=Overlong(penalty_tokens=1, penalty=2.0))
    assert torch.equal(penalised.advantages, -scored("a").advantages)
    assert torch.equal(penalised.rewards.reward, scored("a").rewards.reward)


def test_all_prompts_make_an_episode_in_their_order() -> None:
    names, num_drawn, _ = collected([True, True, True], 3)
    assert names == ["0", "1", "2"]
    assert num_drawn == 3


def test_a_group_of_equal_rewards_is_replaced_by_the_next_prompts() -> None:
    names, num_drawn, episode = collected([True, False, False, True, True], 2)
    assert names == ["0", "3"]
    assert num_drawn == 4
    assert episode.differing.all()
    assert episode.rewards.counts == {"asked": 8}


def test_where_the_prompts_run_out_equal_groups_fill_up() -> None:
    names, num_drawn, episode = collected([False, True, False], 2)
    assert names == ["1", "0"]
    assert num_drawn == 3
    assert episode.differing.tolist() == [True, False]


def test_no_prompt_makes_an_empty_episode() -> None:
    names, num_drawn, episode = collected([], 2)
    assert (names, num_drawn, len(episode.advantages)) == ([], 0, 0)
