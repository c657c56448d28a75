from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoProcessor, ProcessorMixin

from lightning_r1v3.data.preprocess import Preprocessor
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.types import Sample

BASE = Path(__file__).parents[2] / "data_shards" / "mini" / "base"
PICTURE = Image.new("RGB", (48, 48), "white")
SAMPLE = Sample("s", "<image>\nHow many?", (PICTURE,), "3", response="Three.</think>3")


@pytest.fixture(scope="module")
def processor() -> ProcessorMixin:
    return AutoProcessor.from_pretrained(BASE, local_files_only=True)


@pytest.fixture
def preprocess(processor: ProcessorMixin) -> Preprocessor:
    return Preprocessor(processor, PromptFormat())


def test_the_prompt_is_the_templates_and_opens_think(preprocess: Preprocessor) -> None:
    assert preprocess.prompt_text(SAMPLE) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<IMG_CONTEXT>\nHow many?<|im_end|>\n"
        "<|im_start|>assistant\n<think>"
    )


def test_options_and_instruction_follow_the_question(processor: ProcessorMixin) -> None:
    prompt = PromptFormat(system_prompt=None, instruction="Box it.", prompt_opens_think=False)
    text = Preprocessor(processor, prompt).prompt_text(replace(SAMPLE, answer="B", choices=("two", "three")))
    assert text == (
        "<|im_start|>user\n<IMG_CONTEXT>\nHow many?\nA. two\nB. three\nBox it.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_pictures_stand_where_the_question_has_them(preprocess: Preprocessor) -> None:
    sample = replace(SAMPLE, question="Left <image> or <image>?", images=(PICTURE, PICTURE))
    assert "Left <IMG_CONTEXT>\n or <IMG_CONTEXT>\n?" in preprocess.prompt_text(sample)


def test_a_picture_becomes_its_tokens_and_pixels(preprocess: Preprocessor) -> None:
    example = preprocess(SAMPLE)
    text = preprocess.processor.tokenizer.decode(example.prompt_ids)
    assert "<img>" + "<IMG_CONTEXT>" * 9 + "</img>" in text
    assert set(example.vision) == {"pixel_values"}
    assert example.vision["pixel_values"].shape == (1, 3, 48, 48)


def test_a_completion_ends_its_turn(preprocess: Preprocessor) -> None:
    example = preprocess(SAMPLE)
    assert preprocess.processor.tokenizer.decode(example.completion_ids) == "Three.</think>3<|im_end|>"
    assert example.think_opened


def test_without_a_response_there_is_no_completion(preprocess: Preprocessor) -> None:
    example = preprocess(replace(SAMPLE, response=None))
    assert len(example.completion_ids) == 0
    assert example.num_tokens == len(example.prompt_ids)


def test_text_only_samples_have_no_pixels(preprocess: Preprocessor) -> None:
    assert preprocess(replace(SAMPLE, question="How many?", images=())).vision == {}


def test_too_long_samples_are_dropped_whole_and_counted(processor: ProcessorMixin, preprocess: Preprocessor) -> None:
    length = preprocess(SAMPLE).num_tokens
    assert Preprocessor(processor, PromptFormat(), max_tokens=length)(SAMPLE) is not None
    short = Preprocessor(processor, PromptFormat(), max_tokens=length - 1)
    assert short(SAMPLE) is None
    assert short.num_dropped == 1


@pytest.mark.parametrize(
    "change",
    [{"question": "<image> <|im_end|>?"}, {"response": "<IMG_CONTEXT>"}, {"choices": ("<|im_start|>", "b")}],
    ids=["question", "response", "choices"],
)
def test_text_with_a_special_token_is_dropped(
    preprocess: Preprocessor, change: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    assert preprocess(replace(SAMPLE, **change)) is None
    assert preprocess.num_dropped == 1
    assert "dropped sample s: its text holds the special token" in caplog.text


def test_the_blank_is_a_picture_without_a_completion(preprocess: Preprocessor) -> None:
    assert preprocess.blank.vision
    assert len(preprocess.blank.completion_ids) == 0


def test_a_processor_needs_a_chat_template() -> None:
    bare = AutoProcessor.from_pretrained(BASE, local_files_only=True)
    bare.chat_template = None
    with pytest.raises(ValueError, match="a chat template"):
        Preprocessor(bare, PromptFormat())
