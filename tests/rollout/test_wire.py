from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from tiny import Tiny, examples, token_id

from lightning_r1v3.rollout.errors import ServerError
from lightning_r1v3.rollout.wire import Wire, join
from lightning_r1v3.types import Example, Sampling

SAMPLING = Sampling(group_size=2, max_new_tokens=5)


def wire(tiny: Tiny) -> Wire:
    config = tiny.backbone().model.config
    return Wire(
        tiny.preprocessor().processor, vocabulary=config.text_config.vocab_size, image_token_id=config.image_token_id
    )


def reply(prompt: Example, *completions: list[int], reason: str = "stop", version: str = "v") -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "token_ids": ids,
            "finish_reason": reason,
            "weight_versions": [{"version": version}],
            "logprobs": {"content": [{"logprob": -0.5 * i} for i in ids]},
        }
        for index, ids in enumerate(completions)
    ]
    return {"prompt_token_ids": prompt.prompt_ids.tolist(), "choices": choices[::-1]}


def test_each_picture_is_one_token_and_one_lossless_file(any_family: Tiny) -> None:
    sender = wire(any_family)
    for prompt in examples(any_family.preprocessor()):
        request = sender.request(prompt, SAMPLING, step=0)
        image_token = any_family.backbone().model.config.image_token_id
        assert request["token_ids"].count(image_token) == len(prompt.sample.images)
        for part, image in zip(request["content_parts"], prompt.sample.images, strict=True):
            received = Image.open(io.BytesIO(base64.b64decode(part["url"].split(",")[1])))
            assert received.tobytes() == image.tobytes()


def test_the_processor_undoes_it(any_family: Tiny) -> None:
    """The text of the shortened ids, read anew, gives the prompt: what vLLM's processor does with them."""
    processor = any_family.preprocessor().processor
    for prompt in examples(any_family.preprocessor()):
        text = processor.tokenizer.decode(wire(any_family).request(prompt, SAMPLING, step=0)["token_ids"])
        images = list(prompt.sample.images) or None
        again = processor(text=[text], images=images, return_tensors="pt", add_special_tokens=False)
        assert torch.equal(again["input_ids"][0], prompt.prompt_ids)


def test_pictures_without_text_between_them_are_refused(internvl: Tiny) -> None:
    two = examples(internvl.preprocessor())[2]
    image = torch.full((8,), token_id("<IMG_CONTEXT>"))
    with pytest.raises(ValueError, match="2 pictures and 1 runs"):
        wire(internvl).request(replace(two, prompt_ids=image), SAMPLING, step=0)


def test_seed_step_and_prompt_make_the_seed(internvl: Tiny) -> None:
    sender, (first, second, *_) = wire(internvl), examples(internvl.preprocessor())

    def seed(prompt: Example = first, step: int = 0, **settings: int) -> int:
        return sender.request(prompt, replace(SAMPLING, **settings), step=step)["sampling_params"]["seed"]

    assert seed() == seed()
    assert len({seed(), seed(second), seed(step=1), seed(seed=1)}) == 4


@pytest.mark.parametrize("temperature", [1.0, 50.0])
def test_banned_tokens_are_ruled_out(internvl: Tiny, temperature: float) -> None:
    parameters = wire(internvl).request(
        examples(internvl.preprocessor())[1], replace(SAMPLING, temperature=temperature, banned_strings=("a",)), step=0
    )["sampling_params"]
    letter, end, image = token_id("a"), token_id("<|im_end|>"), token_id("<IMG_CONTEXT>")
    if temperature == 1.0:
        assert parameters["logit_bias"][str(letter)] == parameters["logit_bias"][str(image)] == -100.0
        assert str(end) not in parameters["logit_bias"]
    else:
        assert {letter, image}.isdisjoint(parameters["allowed_token_ids"])
        assert end in parameters["allowed_token_ids"]


def test_replies_become_rows_in_order(internvl: Tiny) -> None:
    prompt = examples(internvl.preprocessor())[1]
    groups = [wire(internvl).completions(reply(prompt, [4, 5, 6], [7]), prompt, weight_version="v")]
    rollouts = join(groups * 2, policy_version=3)
    assert rollouts.token_ids.tolist() == [[4, 5, 6], [7, 0, 0]] * 2
    assert rollouts.logprobs[1].tolist() == [-3.5, 0, 0]
    assert rollouts.mask.sum(dim=1).tolist() == [3, 1, 3, 1]
    assert rollouts.finish_reason == ("stop",) * 4
    assert rollouts.policy_version == 3


@pytest.mark.parametrize("wrong", [{"reason": "abort"}, {"version": "older"}])
def test_completions_of_other_weights_or_cut_off_are_asked_again(internvl: Tiny, wrong: dict[str, str]) -> None:
    prompt = examples(internvl.preprocessor())[1]
    with pytest.raises(ServerError, match="expected whole completions"):
        wire(internvl).completions(reply(prompt, [4], **wrong), prompt, weight_version="v")


def test_another_prompt_than_the_trainers_is_an_error(internvl: Tiny) -> None:
    first, second, *_ = examples(internvl.preprocessor())
    with pytest.raises(ValueError, match="processor"):
        wire(internvl).completions(reply(first, [4]), second, weight_version="v")
