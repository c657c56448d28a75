"""A sample becomes token ids and pixels, by the checkpoint's own processor."""

from __future__ import annotations

import logging
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor
from transformers import ProcessorMixin

from lightning_r1v3.data.prompt import THINK_OPEN, PromptFormat
from lightning_r1v3.types import Example, Sample

log = logging.getLogger(__name__)

_TEXT_KEYS = frozenset({"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"})
"""What a processor returns beside vision inputs; packing makes its own of these."""


class Preprocessor:
    """Turns samples into examples; a sample that does not fit is dropped and counted, never cut."""

    def __init__(self, processor: ProcessorMixin, prompt: PromptFormat, *, max_tokens: int = 16384) -> None:
        """Stores the settings.

        Args:
            processor: Of the checkpoint: tokenizer, image processor, chat template. Tiling and pixel limits are its.
            prompt: The wording around a question.
            max_tokens: Longest prompt and completion together; a longer sample is dropped whole.

        Raises:
            ValueError: The processor has no chat template, or its tokenizer no end-of-turn token.
        """
        if processor.chat_template is None or processor.tokenizer.eos_token is None:
            raise ValueError("expected a processor with a chat template and a tokenizer with an eos_token")
        self.processor = processor
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.num_dropped = 0
        """Samples that this process dropped as too long or unusable."""

    def __call__(self, sample: Sample) -> Example | None:
        """Returns the example, or None when it is dropped: too long, or text that holds a special token."""
        if special := self._special_token_in(sample):
            self._drop(sample, f"its text holds the special token {special!r}")
            return None
        example = self._encode(sample)
        if example.num_tokens > self.max_tokens:
            self._drop(sample, f"{example.num_tokens} tokens, more than max_tokens {self.max_tokens}")
            return None
        return example

    def prompt_text(self, sample: Sample) -> str:
        """Returns the prompt before image placeholders are expanded."""
        messages = self.prompt.messages(sample)
        text: str = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text + THINK_OPEN if self.prompt.prompt_opens_think else text

    @cached_property
    def blank(self) -> Example:
        """A picture without content as a prompt of its own: keeps the vision tower busy where a row has no picture."""
        sample = Sample(id="blank", question="<image>", images=(Image.new("RGB", (32, 32)),), answer="")
        return self._encode(sample)

    def _encode(self, sample: Sample) -> Example:
        encoded = self.processor(
            text=[self.prompt_text(sample)],
            images=list(sample.images) or None,
            return_tensors="pt",
            add_special_tokens=False,
        )
        return Example(
            sample=sample,
            prompt_ids=encoded["input_ids"][0],
            completion_ids=self._completion_ids(sample.response),
            vision={key: value for key, value in encoded.items() if key not in _TEXT_KEYS},
            think_opened=self.prompt.prompt_opens_think,
        )

    def _completion_ids(self, response: str | None) -> Tensor:
        if response is None:
            return torch.empty(0, dtype=torch.int64)
        tokenizer = self.processor.tokenizer
        ids = tokenizer(response, add_special_tokens=False)["input_ids"]
        return torch.tensor([*ids, tokenizer.eos_token_id], dtype=torch.int64)

    def _special_token_in(self, sample: Sample) -> str | None:
        text = "\n".join([sample.question, *(sample.choices or ()), sample.response or ""])
        return next((token for token in self._special_tokens if token in text), None)

    @cached_property
    def _special_tokens(self) -> tuple[str, ...]:
        """Tokens that would break a turn or stand for pixels; `<image>` itself is our own placeholder, in place."""
        return tuple(token for token in self.processor.tokenizer.all_special_tokens if token != "<image>")

    def _drop(self, sample: Sample, reason: str) -> None:
        self.num_dropped += 1
        log.warning("dropped sample %s: %s", sample.id, reason)
