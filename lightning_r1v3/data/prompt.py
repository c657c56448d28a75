"""How a problem is put to the model: system prompt, pictures in place, options, instruction, who opens `<think>`."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

from lightning_r1v3.types import Sample

THINK_OPEN = "<think>"
IMAGE_PLACEHOLDER = "<image>"


@dataclass(frozen=True)
class PromptFormat:
    """The wording around a question (paper 6.2 gives the slow-thinking and the no-think template)."""

    system_prompt: str | None = "You are a helpful assistant."
    """Text of the system turn, or None for the chat template's own default."""
    instruction: str = ""
    """Appended to the question on a line of its own, e.g. where to put the final answer."""
    prompt_opens_think: bool = True
    """End the prompt in `<think>`, so that the completion starts inside it; False is the paper's no-think mode."""

    def messages(self, sample: Sample) -> list[dict[str, Any]]:
        """Returns the turns of a sample in transformers' chat format, one image part per picture, in place."""
        text = sample.question + _options(sample.choices)
        if self.instruction:
            text += "\n" + self.instruction
        turns: list[dict[str, Any]] = [{"role": "user", "content": _content(text)}]
        if self.system_prompt is not None:
            turns.insert(0, {"role": "system", "content": [{"type": "text", "text": self.system_prompt}]})
        return turns


def _content(text: str) -> list[dict[str, str]]:
    """Text and image parts in order; the line break after a picture is the chat template's business."""
    first, *rest = text.split(IMAGE_PLACEHOLDER)
    parts = [{"type": "text", "text": first}] if first else []
    for piece in rest:
        parts.append({"type": "image"})
        if following := piece.lstrip("\n"):
            parts.append({"type": "text", "text": following})
    return parts


def _options(choices: tuple[str, ...] | None) -> str:
    letters = string.ascii_uppercase
    return "".join(f"\n{letter}. {choice}" for letter, choice in zip(letters, choices or (), strict=False))
