from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_r1v3.backbone.packing import assign_rows, pack_examples, pack_groups, pack_prompts
from lightning_r1v3.types import Example, Sample, Segment

PIXELS = torch.zeros(1, 3, 2, 2)


def example(prompt: list[int], completion: list[int], *, picture: bool = False) -> Example:
    vision = {"pixel_values": PIXELS} if picture else {}
    return Example(Sample("x", "", (), ""), torch.tensor(prompt), ids(*completion), vision)


def ids(*token_ids: int) -> Tensor:
    return torch.tensor(token_ids, dtype=torch.int64)


BLANK = example([90, 91], [], picture=True)


def test_first_fit_decreasing() -> None:
    assert assign_rows([3, 6, 4, 2, 7], max_tokens=10) == [[4, 0], [1, 2], [3]]


def test_what_is_longer_than_the_budget_has_a_row_of_its_own() -> None:
    assert assign_rows([3, 30], max_tokens=10) == [[1], [0]]


def test_a_completion_is_predicted_from_the_end_of_its_prompt_on() -> None:
    examples = [example([1, 2, 3], [4, 5], picture=True), example([6], [7])]
    ((_, row),) = pack_examples(examples, max_tokens=10, blank=BLANK)
    assert row.token_ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert row.segments == (Segment(0, 5), Segment(5, 2))
    assert row.predictors.tolist() == [2, 3, 5]
    assert row.targets.tolist() == [4, 5, 7]
    assert row.completion_lengths.tolist() == [2, 1]


def test_a_row_without_a_picture_ends_with_the_blank() -> None:
    ((_, row),) = pack_examples([example([6], [7])], max_tokens=10, blank=BLANK)
    assert row.token_ids.tolist() == [6, 7, 90, 91]
    assert row.segments == (Segment(0, 2), Segment(2, 2))
    assert row.targets.tolist() == [7]
    assert torch.equal(row.vision["pixel_values"], PIXELS)


def test_no_examples_give_one_row_of_the_blank() -> None:
    ((examples, row),) = pack_examples([], max_tokens=10, blank=BLANK)
    assert examples == []
    assert row.token_ids.tolist() == [90, 91]
    assert len(row.targets) == len(row.predictors) == len(row.completion_lengths) == 0


def test_prompts_alone_have_no_targets() -> None:
    row = pack_prompts([example([1, 2], [3]), example([4], [5])])
    assert row.token_ids.tolist() == [1, 2, 4]
    assert row.segments == (Segment(0, 2), Segment(2, 1))
    assert len(row.targets) == 0


def test_a_group_holds_its_prompt_and_picture_once() -> None:
    prompts = [example([1, 2, 3], [99], picture=True), example([7, 8], [])]
    completions = [[ids(4, 5), ids(6)], [ids(9)]]
    ((members, row),) = pack_groups(prompts, completions, max_tokens=20, blank=BLANK)
    assert members == [0, 1, 2]
    assert row.token_ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert row.segments == (Segment(0, 3), Segment(3, 2, 0), Segment(5, 1, 0), Segment(6, 2), Segment(8, 1, 3))
    assert row.predictors.tolist() == [2, 3, 2, 7]
    assert row.targets.tolist() == [4, 5, 6, 9]
    assert row.completion_lengths.tolist() == [2, 1, 1]
    assert row.vision["pixel_values"].shape == PIXELS.shape


def test_a_group_that_fits_into_a_row_stays_whole() -> None:
    prompts = [example([1, 2], []) for _ in range(3)]
    completions = [[ids(3, 4), ids(5, 6)]] * 3
    rows = pack_groups(prompts, completions, max_tokens=7, blank=BLANK)
    assert [members for members, _ in rows] == [[0, 1], [2, 3], [4, 5]]
    assert all(row.completion_lengths.tolist() == [2, 2] for _, row in rows)


def test_a_group_longer_than_a_row_is_cut_into_parts_with_its_prompt() -> None:
    prompts = [example([1, 2], [], picture=True), example([7], [])]
    completions = [[ids(3, 4), ids(5), ids(6, 6, 6, 6)], [ids(8)]]
    rows = pack_groups(prompts, completions, max_tokens=5, blank=BLANK)
    assert [(members, row.token_ids.tolist()) for members, row in rows[:2]] == [
        ([2], [1, 2, 6, 6, 6, 6]),  # longer than the budget, alone
        ([0, 1], [1, 2, 3, 4, 5]),
    ]
    assert [row.segments for _, row in rows[:2]] == [
        (Segment(0, 2), Segment(2, 4, 0)),
        (Segment(0, 2), Segment(2, 2, 0), Segment(4, 1, 0)),
    ]
    assert all(row.vision["pixel_values"].shape == PIXELS.shape for _, row in rows)
    assert sorted(member for members, _ in rows for member in members) == [0, 1, 2, 3]


def test_no_groups_give_one_row_of_the_blank() -> None:
    ((members, row),) = pack_groups([], [], max_tokens=5, blank=BLANK)
    assert members == []
    assert row.token_ids.tolist() == [90, 91]


def test_an_empty_completion_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        pack_groups([BLANK], [[ids()]], max_tokens=5, blank=BLANK)


def test_every_prompt_needs_its_completions() -> None:
    with pytest.raises(ValueError, match="completions of 1 prompts, got those of 0"):
        pack_groups([BLANK], [], max_tokens=5, blank=BLANK)
