"""Completions from the trainer's own model: each prompt and its pictures computed once, then decoded in lockstep."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.rollout.decoder import Decoder
from lightning_r1v3.rollout.draws import ban_bias, uniforms
from lightning_r1v3.rollout.packed_linear import packed_linears
from lightning_r1v3.types import FINISH_LENGTH, FINISH_STOP, Example, RolloutBatch, Sampling, SyncReport


class LocalEngine:
    """A `RolloutEngine` over a backbone that lives in this process."""

    def __init__(self, backbone: Backbone | None = None, *, max_completions: int = 256) -> None:
        """Stores the settings.

        Args:
            backbone: Whole on this process, not sharded; None until the first `sync`.
            max_completions: Most completions decoded together; more prompts are taken in turns.

        Raises:
            ValueError: `max_completions` is below 1.
        """
        if max_completions < 1:
            raise ValueError(f"expected max_completions >= 1, got {max_completions}")
        self._backbone = backbone
        self._policy_version = 0
        self.max_completions = max_completions
        self._bias: dict[tuple[str, ...], Tensor] = {}

    @property
    def backbone(self) -> Backbone:
        """The policy."""
        assert self._backbone is not None, "the engine generates after its first sync"
        return self._backbone

    def sync(self, backbone: Backbone, *, policy_version: int = 0) -> SyncReport:
        """Remembers the backbone, whose weights are read as they stand; of a sharded one it makes a whole copy."""
        self._backbone = backbone.gathered()
        self._policy_version = policy_version
        return SyncReport()

    @torch.no_grad()
    def generate(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> RolloutBatch:
        """Returns the completions; see `RolloutEngine`.

        Raises:
            ValueError: There is no prompt.
        """
        if not prompts:
            raise ValueError("generate: expected at least one prompt, got none")
        width = max(1, self.max_completions // sampling.group_size)
        training = self.backbone.training
        self.backbone.eval()  # gradient checkpointing would only slow the decoding down
        with packed_linears(self.backbone.model):
            decoders = [
                self._decode(prompts[first : first + width], sampling, step) for first in range(0, len(prompts), width)
            ]
        self.backbone.train(training)
        return _join(decoders, policy_version=self._policy_version)

    def close(self) -> None:
        """Frees nothing: the model is the trainer's."""

    def _decode(self, prompts: Sequence[Example], sampling: Sampling, step: int) -> Decoder:
        decoder = Decoder(
            self.backbone,
            prompts,
            sampling,
            bias=self.banned(sampling.banned_strings),
            uniforms=uniforms(prompts, sampling, step=step),
        )
        decoder.run()
        return decoder

    def banned(self, banned_strings: tuple[str, ...]) -> Tensor:
        """Returns float32 `[V]`, added to the logits: rules out special tokens and those that hold a banned string."""
        if banned_strings not in self._bias:
            vocabulary = self.backbone.model.get_output_embeddings().weight.shape[0]
            self._bias[banned_strings] = ban_bias(self.backbone.processor, vocabulary, banned_strings)
        return self._bias[banned_strings]


def _join(decoders: Sequence[Decoder], *, policy_version: int) -> RolloutBatch:
    lengths = torch.cat([decoder.lengths for decoder in decoders])
    longest = int(lengths.max())
    ended = torch.cat([decoder.ended for decoder in decoders])
    return RolloutBatch(
        token_ids=torch.cat([_to_length(decoder.tokens, longest) for decoder in decoders]),
        logprobs=torch.cat([_to_length(decoder.logprobs, longest) for decoder in decoders]),
        mask=torch.arange(longest, device=lengths.device) < lengths[:, None],
        finish_reason=tuple(FINISH_STOP if stopped else FINISH_LENGTH for stopped in ended.tolist()),
        policy_version=policy_version,
    )


def _to_length(tensor: Tensor, length: int) -> Tensor:
    return tensor[:, :length] if tensor.shape[1] >= length else pad(tensor, (0, length - tensor.shape[1]))
