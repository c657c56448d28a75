"""Prompts and completions as they travel to a vLLM server and back."""

from __future__ import annotations

import hashlib
import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import ProcessorMixin

from lightning_r1v3.rollout.draws import ban_bias
from lightning_r1v3.rollout.errors import ServerError
from lightning_r1v3.types import FINISH_LENGTH, FINISH_STOP, Example, RolloutBatch, Sampling

_HIGHEST_BIASED_TEMPERATURE = 2.0
_BIAS = -100.0
"""The lowest that vLLM takes. Divided by the temperature it still puts a banned token at e^-50 of the others."""
_SEED_BYTES = 6


@dataclass(frozen=True)
class Completion:
    """One completion from a server."""

    token_ids: Tensor
    """int64 `[length]`."""
    logprobs: Tensor
    """float32 `[length]`, as sampled."""
    finish_reason: str
    """`stop` or `length`."""


class Wire:
    """Writes requests and reads replies, for one model."""

    def __init__(self, processor: ProcessorMixin, *, vocabulary: int, image_token_id: int) -> None:
        """Stores what the model's prompts are made of.

        Args:
            processor: The model's.
            vocabulary: Rows of its output layer.
            image_token_id: Token that stands for pixels.
        """
        self._processor = processor
        self._vocabulary = vocabulary
        self._image_token_id = image_token_id
        tokenizer = processor.tokenizer
        around = (getattr(processor, "start_image_token", None), getattr(processor, "end_image_token", None))
        self._around = tuple(tokenizer.convert_tokens_to_ids(token) for token in around if token is not None)
        self._bans: dict[tuple[tuple[str, ...], bool], dict[str, Any]] = {}

    def request(self, prompt: Example, sampling: Sampling, *, step: int) -> dict[str, Any]:
        """Returns the request for a prompt's group of completions: token ids and pictures, no text.

        Raises:
            ValueError: The prompt's image tokens do not show which belong to which picture.
        """
        return {
            "token_ids": self._with_one_token_per_picture(prompt),
            "content_parts": [{"type": "image_url", "url": _data_url(image)} for image in prompt.sample.images],
            "return_token_ids": True,
            "sampling_params": {
                "n": sampling.group_size,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_new_tokens,
                "seed": _seed(prompt, sampling, step),
                "logprobs": 0,  # of the sampled token alone
                "ignore_eos": True,  # the checkpoint's own list may lack the end of turn, or hold more
                "stop_token_ids": [self._processor.tokenizer.eos_token_id],
                "detokenize": False,
                **self._ban(sampling),
            },
        }

    def completions(self, reply: dict[str, Any], prompt: Example, *, weight_version: str) -> list[Completion]:
        """Returns the completions of a reply, in order.

        Raises:
            ServerError: They were drawn by other weights, or broke off.
            ValueError: The server saw another prompt than the trainer does.
        """
        if (seen := reply["prompt_token_ids"]) != prompt.prompt_ids.tolist():
            raise ValueError(
                f"prompt {prompt.sample.id}: vLLM's processor makes {len(seen)} tokens of it, the trainer's "
                f"{len(prompt.prompt_ids)}, or others: serve the processor that the trainer uses"
            )
        choices = sorted(reply["choices"], key=lambda choice: choice["index"])
        for choice in choices:
            versions = {span["version"] for span in choice["weight_versions"] or ()}
            if choice["finish_reason"] not in {FINISH_STOP, FINISH_LENGTH} or versions - {weight_version}:
                raise ServerError(
                    f"prompt {prompt.sample.id}: expected whole completions of weights {weight_version!r}, got "
                    f"{choice['finish_reason']!r} of {sorted(versions)}"
                )
        return [_completion(choice) for choice in choices]

    def _with_one_token_per_picture(self, prompt: Example) -> list[int]:
        """Token ids as they were before the processor put in one token per patch; the server does that again."""
        ids = prompt.prompt_ids.tolist()
        kept: list[int] = []
        num_runs = 0
        for index, token in enumerate(ids):
            if token == self._image_token_id:
                if index and ids[index - 1] == token:
                    continue
                num_runs += 1
            elif token in self._around:
                continue
            kept.append(token)
        if num_runs != len(prompt.sample.images):
            raise ValueError(
                f"prompt {prompt.sample.id}: {len(prompt.sample.images)} pictures and {num_runs} runs of image tokens; "
                "the vLLM engine needs text between two pictures"
            )
        return kept

    def _ban(self, sampling: Sampling) -> dict[str, Any]:
        biased = sampling.temperature <= _HIGHEST_BIASED_TEMPERATURE
        key = (sampling.banned_strings, biased)
        if key not in self._bans:
            bias = ban_bias(self._processor, self._vocabulary, sampling.banned_strings)
            banned = {str(token): _BIAS for token in bias.nonzero()[:, 0].tolist()}
            allowed = (bias == 0).nonzero()[:, 0].tolist()
            self._bans[key] = {"logit_bias": banned} if biased else {"allowed_token_ids": allowed}
        return self._bans[key]


def join(groups: Sequence[Sequence[Completion]], *, policy_version: int) -> RolloutBatch:
    """Returns the completions of all prompts, prompt-major."""
    completions = [completion for group in groups for completion in group]
    lengths = torch.tensor([len(completion.token_ids) for completion in completions])
    return RolloutBatch(
        token_ids=pad_sequence([completion.token_ids for completion in completions], batch_first=True),
        logprobs=pad_sequence([completion.logprobs for completion in completions], batch_first=True),
        mask=torch.arange(int(lengths.max())) < lengths[:, None],
        finish_reason=tuple(completion.finish_reason for completion in completions),
        policy_version=policy_version,
    )


def _completion(choice: dict[str, Any]) -> Completion:
    content = choice["logprobs"]["content"]
    return Completion(
        token_ids=torch.tensor(choice["token_ids"], dtype=torch.int64),
        logprobs=torch.tensor([entry["logprob"] for entry in content], dtype=torch.float32),
        finish_reason=choice["finish_reason"],
    )


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode()


def _seed(prompt: Example, sampling: Sampling, step: int) -> int:
    """A pure function of seed, step and prompt; vLLM adds a completion's place in its group to it."""
    text = f"{sampling.seed}/{step}/{prompt.sample.source}/{prompt.sample.id}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:_SEED_BYTES], "little")
