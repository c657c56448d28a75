from __future__ import annotations

from collections.abc import Callable

import torch
from tiny import Tiny, examples

from lightning_r1v3.backbone.packing import pack_groups, pack_prompts
from lightning_r1v3.types import TokenBatch


def positions(tiny: Tiny, row: TokenBatch) -> torch.Tensor:
    return tiny.backbone().positions(row)


def test_completions_go_on_from_their_prompt(internvl: Tiny) -> None:
    preprocessor = internvl.preprocessor()
    text = examples(preprocessor)[1]
    ((_, row),) = pack_groups([text], [[torch.tensor([400, 401]), torch.tensor([402])]], max_tokens=99, blank=text)
    end = len(text.prompt_ids)
    assert positions(internvl, row)[0, : end + 3].tolist() == [*range(end), end, end + 1, end]


def test_three_axes_are_the_models_own_for_each_prompt(tiny_of: Callable[[str], Tiny]) -> None:
    tiny = tiny_of("qwen2_5_vl")
    prompts = examples(tiny.preprocessor())
    together = positions(tiny, pack_prompts(prompts))
    model = tiny.stock()
    start = 0
    for prompt in prompts:
        token_ids = prompt.prompt_ids[None]
        is_image = (token_ids == model.config.image_token_id).int()
        own, _ = model.model.get_rope_index(token_ids, is_image, image_grid_thw=prompt.vision.get("image_grid_thw"))
        assert torch.equal(together[..., start : start + len(prompt.prompt_ids)], own)
        start += len(prompt.prompt_ids)


def test_completions_start_behind_the_largest_position_of_three(tiny_of: Callable[[str], Tiny]) -> None:
    tiny = tiny_of("qwen2_5_vl")
    preprocessor = tiny.preprocessor()
    prompt = examples(preprocessor)[0]
    ((_, row),) = pack_groups([prompt], [[torch.tensor([400, 401])]], max_tokens=999, blank=preprocessor.blank)
    found = positions(tiny, row)
    length = len(prompt.prompt_ids)
    first = int(found[..., :length].max()) + 1
    assert first < length
    assert found[:, 0, length:].tolist() == [[first, first + 1]] * 3
