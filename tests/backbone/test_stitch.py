from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import LANGUAGE, TOKENIZER, Tiny, config_of, examples, stock_stats
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.backbone.packing import pack_examples
from lightning_r1v3.data.preprocess import Preprocessor
from lightning_r1v3.data.prompt import PromptFormat

KINDS = {"qwen2": Qwen2Config, "qwen3": Qwen3Config}


def write_vision(folder: Path, **vision: Any) -> str:
    config = config_of("internvl").vision_config
    for name, value in vision.items():
        setattr(config, name, value)
    AutoModel.from_config(config).save_pretrained(folder)
    return str(folder)


def write_language(folder: Path, *, kind: str = "qwen2", vocab_size: int = 768, **options: Any) -> str:
    """A language model whose tokenizer has 764 tokens and knows no pictures."""
    config = KINDS[kind](**LANGUAGE | {"vocab_size": vocab_size} | options)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    text_tokenizer().save_pretrained(folder)
    return str(folder)


def text_tokenizer() -> PreTrainedTokenizerFast:
    backend = AutoTokenizer.from_pretrained(TOKENIZER).backend_tokenizer.to_str()
    for image, other in {"<img>": "<fim1>", "</img>": "<fim2>", "<IMG_CONTEXT>": "<fim3>", "<video>": "<fim4>"}.items():
        backend = backend.replace(f'"{image}"', f'"{other}"')
    shell = AutoTokenizer.from_pretrained(TOKENIZER).backend_tokenizer.from_str(backend)
    return PreTrainedTokenizerFast(tokenizer_object=shell, pad_token="<|endoftext|>", eos_token="<|endoftext|>")


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_vision(tmp_path_factory.mktemp("vision"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [False, True])
def test_a_stitched_model_is_an_internvl_like_any_other(vision: str, tmp_path: Path, kind: str, tied: bool) -> None:
    language = write_language(tmp_path / "llm", kind=kind, tie_word_embeddings=tied)
    stitched = Backbone.from_parts(vision_tower=vision, language_model=language)
    stitched.export(tmp_path / "hf")
    again = Backbone.from_config(BackboneConfig(str(tmp_path / "hf")))
    preprocessor = Preprocessor(again.processor, PromptFormat())
    ((order, row),) = pack_examples(examples(preprocessor), max_tokens=10_000, blank=preprocessor.blank)
    stock = AutoModelForImageTextToText.from_pretrained(tmp_path / "hf")
    with torch.no_grad():
        scored = [backbone(row).logprobs for backbone in (stitched, again)]
        scored.append(stock_stats(stock, order)[0])
    torch.testing.assert_close(scored[0], scored[1])
    torch.testing.assert_close(scored[0], scored[2], rtol=1e-5, atol=1e-5)
    assert (again.model.lm_head.weight is again.model.get_input_embeddings().weight) is tied


def test_the_parts_keep_their_weights(vision: str, tmp_path: Path) -> None:
    language = write_language(tmp_path, vocab_size=800)
    model = Backbone.from_parts(vision, language).model
    parts = {
        "model.vision_tower.": AutoModel.from_pretrained(vision).state_dict(),
        "": {
            name.replace("model.", "model.language_model.", 1): tensor
            for name, tensor in AutoModelForCausalLM.from_pretrained(language).state_dict().items()
        },
    }
    state = model.state_dict()
    assert all(
        torch.equal(state[prefix + name], tensor) for prefix, part in parts.items() for name, tensor in part.items()
    )
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


def test_the_connector_follows_the_seed(vision: str, tmp_path: Path) -> None:
    language = write_language(tmp_path)
    connectors = [
        Backbone.from_parts(vision, language, seed=seed).model.model.multi_modal_projector.linear_1.weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(connectors[0], connectors[1])
    assert not torch.equal(connectors[0], connectors[2])


def test_image_tokens_are_added_and_embeddings_grow_where_they_must(vision: str, tmp_path: Path) -> None:
    small, roomy = (write_language(tmp_path / str(size), vocab_size=size) for size in (768, 800))
    for folder, rows in ((small, 772), (roomy, 800)):
        stitched = Backbone.from_parts(vision, folder)
        assert len(stitched.processor.tokenizer) == 772
        assert stitched.model.config.image_token_id == stitched.processor.image_token_id
        assert stitched.model.get_output_embeddings().weight.shape[0] == rows
        assert stitched.model.config.text_config.vocab_size == rows


def test_turns_end_with_chatml(vision: str, tmp_path: Path) -> None:
    stitched = Backbone.from_parts(vision, write_language(tmp_path))
    assert stitched.processor.tokenizer.eos_token == "<|im_end|>"


def test_dtype_is_that_of_every_parameter(vision: str, tmp_path: Path) -> None:
    stitched = Backbone.from_parts(vision, write_language(tmp_path), dtype="bfloat16")
    assert {parameter.dtype for parameter in stitched.parameters()} == {torch.bfloat16}


def test_the_parts_are_told_apart(vision: str, tmp_path: Path) -> None:
    language = write_language(tmp_path)
    with pytest.raises(ValueError, match="vision_tower: expected model_type 'internvl_vision', got 'qwen2'"):
        Backbone.from_parts(language, language)
    with pytest.raises(ValueError, match=r"language_model: expected a model_type in .* got 'internvl_vision'"):
        Backbone.from_parts(vision, vision)


def test_a_whole_internvl_is_told_how_to_give_its_tower(internvl: Tiny, tmp_path: Path) -> None:
    language, tower = write_language(tmp_path / "llm"), tmp_path / "tower"
    with pytest.raises(ValueError, match=r"AutoModel.from_pretrained\(FOLDER\).vision_tower.save_pretrained"):
        Backbone.from_parts(str(internvl.folder), language)
    AutoModel.from_pretrained(internvl.folder).vision_tower.save_pretrained(tower)
    Backbone.from_parts(str(tower), language)


def test_a_missing_folder_is_named(vision: str) -> None:
    with pytest.raises(ValueError, match="language_model 'nowhere': expected a Hugging Face folder"):
        Backbone.from_parts(vision, "nowhere")


def test_pictures_must_shuffle_into_whole_tokens(tmp_path: Path) -> None:
    odd = write_vision(tmp_path / "vision", image_size=(12, 12))
    with pytest.raises(ValueError, match="square pictures of an even number of 4-pixel patches, got 12"):
        Backbone.from_parts(odd, write_language(tmp_path / "llm"))


def test_a_tokenizer_without_chatml_is_refused(vision: str, tmp_path: Path) -> None:
    language = Path(write_language(tmp_path / "llm"))
    file = language / "tokenizer.json"
    file.write_text(file.read_text().replace("<|im_start|>", "<|other|>"))
    with pytest.raises(ValueError, match=r"expected a ChatML tokenizer, it lacks \['<\|im_start\|>'\]"):
        Backbone.from_parts(vision, str(language))


def test_pickled_parts_are_refused(vision: str, tmp_path: Path) -> None:
    copy = shutil.copytree(vision, tmp_path / "vision")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="pickled weights are never loaded"):
        Backbone.from_parts(str(copy), write_language(tmp_path / "llm"))
