from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest
from transformers import AutoProcessor, PreTrainedTokenizerFast

from lightning_r1v3.data.mini import generate
from lightning_r1v3.data.mini.processor import build_processor
from lightning_r1v3.data.mini.tokenizer import VOCABULARY_SIZE, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.mark.parametrize("text", ["row 1: red circle, none", "Größe ∑ 素 \t\n x", r"\boxed{12}", ""])
def test_any_text_survives_the_round_trip(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_vocabulary_has_the_stated_size(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == VOCABULARY_SIZE


def test_digits_stand_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize("120 + 45") == ["1", "2", "0", "Ġ+", "Ġ4", "5"]


@pytest.mark.parametrize("word", ["circle", "yellow", "triangle", "columns", "perimeter", "molecules", "assistant"])
def test_words_of_the_world_are_one_token(tokenizer: PreTrainedTokenizerFast, word: str) -> None:
    assert len(tokenizer.tokenize(f" {word}")) == 1


def test_think_tokens_are_single_and_kept_when_special_ones_are_skipped(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer("<|im_start|><think>a</think>b<|im_end|>").input_ids
    assert len(ids) == 6
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>a</think>b"


def test_padding_and_end_are_different_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")


@pytest.mark.parametrize("difficulty", ["normal", "hard"])
def test_chains_have_40_to_150_tokens(tokenizer: PreTrainedTokenizerFast, difficulty: str) -> None:
    samples = generate("train", 300, 5, difficulty=difficulty)  # type: ignore[arg-type]
    lengths = [len(tokenizer(sample.response).input_ids) for sample in samples]
    assert min(lengths) >= 40
    assert max(lengths) <= 150
    assert 80 <= mean(lengths) <= 130


@pytest.mark.parametrize("difficulty", ["normal", "hard"])
def test_mimicry_is_as_long_as_a_short_chain(tokenizer: PreTrainedTokenizerFast, difficulty: str) -> None:
    samples = generate("train", 100, 5, difficulty=difficulty, style="mimicry")  # type: ignore[arg-type]
    lengths = [len(tokenizer(sample.response).input_ids) for sample in samples]
    assert min(lengths) >= 40
    assert max(lengths) <= 100


@pytest.mark.integration
def test_building_twice_gives_the_same_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    assert build_tokenizer().get_vocab() == tokenizer.get_vocab()


def test_the_processor_expands_a_picture_to_nine_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    processor = build_processor(tokenizer)
    picture = next(generate("train", 1, 0)).images[0]
    inputs = processor(images=[picture], text="<IMG_CONTEXT>\nHow many?", return_tensors="pt")
    assert tokenizer.decode(inputs["input_ids"][0]) == "<img>" + "<IMG_CONTEXT>" * 9 + "</img>\nHow many?"
    assert inputs["pixel_values"].shape == (1, 3, 48, 48)
    assert -1 <= inputs["pixel_values"].min() < inputs["pixel_values"].max() <= 1


def test_the_chat_template_is_chatml(tokenizer: PreTrainedTokenizerFast) -> None:
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}
    messages = [{"role": "system", "content": "Be brief."}, user]
    assert build_processor(tokenizer).apply_chat_template(messages, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n<IMG_CONTEXT>\nHow many?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_saved_processor_loads_offline_and_does_the_same(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    processor = build_processor(tokenizer)
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    picture = next(generate("train", 1, 0)).images[0]
    first, second = (p(images=[picture], text="<IMG_CONTEXT>\n3", return_tensors="pt") for p in (processor, again))
    assert first["input_ids"].tolist() == second["input_ids"].tolist()
    assert first["pixel_values"].equal(second["pixel_values"])
    assert again.chat_template == processor.chat_template
