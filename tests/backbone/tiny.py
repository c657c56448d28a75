"""Tiny checkpoints of every family with random weights, a few samples, and what stock transformers says about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    GotOcr2ImageProcessor,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.backbone.packing import pack_examples
from lightning_r1v3.data.mini.processor import CHAT_TEMPLATE
from lightning_r1v3.data.preprocess import Preprocessor
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.types import Example, Sample, TokenBatch

FAMILIES = ("internvl", "qwen2_5_vl", "qwen3_vl", "llava_onevision")
TOKENIZER = Path(__file__).parents[2] / "data_shards" / "mini" / "base"
SPECIAL_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<image>"]
PLACEHOLDERS = {
    "internvl": "<IMG_CONTEXT>\\n",
    "qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "qwen3_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "llava_onevision": "<image>\\n",
}
UNKNOWN_IDS = 5
"""Rows of the embedding beyond the tokenizer's last id, as released checkpoints have them."""
WIDTH, PATCH, TILE = 32, 4, 16
LANGUAGE = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "initializer_range": 0.2,
}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
SETTINGS = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
PINPOINTS = [[TILE, 2 * TILE], [2 * TILE, TILE], [TILE, TILE]]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    loaded = AutoTokenizer.from_pretrained(TOKENIZER, local_files_only=True)
    loaded.add_special_tokens({"additional_special_tokens": SPECIAL_TOKENS}, replace_extra_special_tokens=False)
    return loaded


def token_id(token: str) -> int:
    return int(tokenizer().convert_tokens_to_ids(token))


def processor_of(family: str) -> ProcessorMixin:
    shared: dict[str, Any] = {
        "tokenizer": tokenizer(),
        "chat_template": CHAT_TEMPLATE.replace("<IMG_CONTEXT>\\n", PLACEHOLDERS[family]),
    }
    size = {"height": TILE, "width": TILE}
    qwen = {"patch_size": PATCH, "merge_size": 2, "min_pixels": 64, "max_pixels": 1024, **SETTINGS}
    if family == "internvl":
        tiles = {"crop_to_patches": True, "min_patches": 1, "max_patches": 3, "size": size, **SETTINGS}
        return InternVLProcessor(
            image_processor=GotOcr2ImageProcessor(**tiles),
            video_processor=InternVLVideoProcessor(size=size, **SETTINGS),
            image_seq_length=(TILE // PATCH // 2) ** 2,
            **shared,
        )
    if family == "llava_onevision":
        return LlavaOnevisionProcessor(
            image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=PINPOINTS, **SETTINGS),
            video_processor=LlavaOnevisionVideoProcessor(size=size, **SETTINGS),
            num_image_tokens=(TILE // PATCH) ** 2,
            vision_feature_select_strategy="full",
            **shared,
        )
    if family == "qwen2_5_vl":
        videos = Qwen2VLVideoProcessor(**qwen)
        return Qwen2_5_VLProcessor(image_processor=Qwen2VLImageProcessor(**qwen), video_processor=videos, **shared)
    pixels = {"size": {"shortest_edge": 64, "longest_edge": 1024}, "patch_size": PATCH, "merge_size": 2, **SETTINGS}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**qwen), video_processor=Qwen3VLVideoProcessor(**pixels), **shared
    )


def config_of(family: str, **language: Any) -> Any:
    text = LANGUAGE | {"vocab_size": len(tokenizer()) + UNKNOWN_IDS} | language
    qwen_ids = {
        "image_token_id": token_id("<|image_pad|>"),
        "video_token_id": token_id("<|video_pad|>"),
        "vision_start_token_id": token_id("<|vision_start|>"),
        "vision_end_token_id": token_id("<|vision_end|>"),
    }
    if family == "internvl":
        vision = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        return transformers.InternVLConfig(
            vision_config=vision | {"image_size": [TILE, TILE], "patch_size": [PATCH, PATCH], "initializer_range": 0.2},
            text_config=text | {"model_type": "qwen2"},
            image_token_id=token_id("<IMG_CONTEXT>"),
            image_seq_length=(TILE // PATCH // 2) ** 2,
            tie_word_embeddings=False,
        )
    if family == "llava_onevision":
        vision = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        return transformers.LlavaOnevisionConfig(
            vision_config=vision
            | {"model_type": "siglip_vision_model", "image_size": TILE, "patch_size": PATCH, "vision_use_head": False},
            text_config=text | {"model_type": "qwen2"},
            image_token_index=token_id("<image>"),
            video_token_index=token_id("<video>"),
            image_grid_pinpoints=PINPOINTS,
        )
    vision = {"depth": 3, "hidden_size": 24, "num_heads": 2, "intermediate_size": 32, "patch_size": PATCH}
    vision |= {"out_hidden_size": WIDTH, "initializer_range": 0.2}
    if family == "qwen2_5_vl":
        return transformers.Qwen2_5_VLConfig(
            vision_config=vision | {"window_size": 16, "fullatt_block_indexes": [1]},
            text_config=text | {"rope_parameters": MROPE},
            **qwen_ids,
        )
    return transformers.Qwen3VLConfig(
        vision_config=vision | {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16},
        text_config=text | {"rope_parameters": MROPE | {"mrope_interleaved": True}, "head_dim": 8},
        **qwen_ids,
    )


@dataclass(frozen=True)
class Tiny:
    """A tiny checkpoint on disk."""

    family: str
    folder: Path

    def backbone(self, **settings: Any) -> Backbone:
        return Backbone.from_config(BackboneConfig(str(self.folder), **settings))

    def stock(self, attention: str = "sdpa") -> PreTrainedModel:
        """The model as transformers loads it, with its own attention."""
        return AutoModelForImageTextToText.from_pretrained(
            self.folder, dtype=torch.float32, attn_implementation=attention, local_files_only=True
        )

    def preprocessor(self) -> Preprocessor:
        processor = transformers.AutoProcessor.from_pretrained(self.folder, local_files_only=True)
        return Preprocessor(processor, PromptFormat(system_prompt=None))


def write_tiny(family: str, folder: Path, **language: Any) -> Tiny:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config_of(family, **language), dtype=torch.float32)
        # Norms and biases start at 1 and 0, where a mix-up would not show.
        for parameter in model.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    processor_of(family).save_pretrained(folder)
    return Tiny(family, folder)


def picture(width: int, height: int, seed: int) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (height, width, 3), dtype=torch.uint8, generator=generator)
    return Image.fromarray(pixels.numpy())


def samples() -> list[Sample]:
    """Pictures of different sizes, several in one sample, none in another; responses of unequal lengths."""
    wide, tall, square = picture(40, 17, 1), picture(16, 30, 2), picture(16, 16, 3)
    return [
        Sample("wide", "<image>\nHow many circles?", (wide,), "3", response="I count three.</think>\n\\boxed{3}"),
        Sample("text", "What is 2 + 3?", (), "5", response="5"),
        Sample(
            "two", "<image> or <image>: which is red?", (tall, square), "A", response="Wait. The first one.</think>A"
        ),
        Sample("tall", "How high is <image>?", (tall,), "9", response="Nine units, I think.</think>\n\\boxed{9}"),
    ]


def examples(preprocessor: Preprocessor) -> list[Example]:
    made = [preprocessor(sample) for sample in samples()]
    assert all(example is not None for example in made)
    return made


def completions(num: int, seed: int = 0, longest: int = 9) -> list[Tensor]:
    """Token ids of random text, of unequal lengths of at least 1."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (num,), generator=generator).tolist()
    return [torch.randint(300, 760, (length,), generator=generator) for length in lengths]


def with_completion(example: Example, token_ids: Tensor) -> Example:
    return replace(example, completion_ids=token_ids)


def stock_stats(model: PreTrainedModel, sequences: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of the completions by the stock model, one sequence at a time."""
    logprobs, entropies = [], []
    for example in sequences:
        logits = _stock_logits(model, example)[len(example.prompt_ids) - 1 : -1]
        logps = logits.log_softmax(dim=-1)
        logprobs.append(logps.gather(1, example.completion_ids[:, None])[:, 0])
        entropies.append(-(logps.exp() * logps).sum(dim=-1))
    return torch.cat(logprobs), torch.cat(entropies)


def _stock_logits(model: PreTrainedModel, example: Example) -> Tensor:
    token_ids = torch.cat([example.prompt_ids, example.completion_ids])[None]
    extra = {}
    if "qwen" in model.config.model_type:
        extra["mm_token_type_ids"] = (token_ids == model.config.image_token_id).int()
    return model(input_ids=token_ids, use_cache=False, **example.vision, **extra).logits[0]


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def relative_difference(mine: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
    """Global norm of the difference of two sets of gradients, relative to the reference's."""
    assert mine.keys() == reference.keys()
    difference = torch.stack([(mine[name] - reference[name]).norm() for name in reference]).norm()
    return float(difference / torch.stack([gradient.norm() for gradient in reference.values()]).norm())


@pytest.fixture(scope="session")
def tiny_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tiny]:
    return cache(lambda family: write_tiny(family, tmp_path_factory.mktemp("tiny") / family))


@pytest.fixture(params=FAMILIES)
def any_family(request: pytest.FixtureRequest, tiny_of: Callable[[str], Tiny]) -> Tiny:
    return tiny_of(request.param)


@pytest.fixture
def internvl(tiny_of: Callable[[str], Tiny]) -> Tiny:
    return tiny_of("internvl")


def packed_row(tiny: Tiny) -> TokenBatch:
    """The samples in one row."""
    preprocessor = tiny.preprocessor()
    return pack_examples(examples(preprocessor), max_tokens=10_000, blank=preprocessor.blank)[0][1]
