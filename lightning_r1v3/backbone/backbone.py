"""The shared vision-language backbone: a packed row in, log-probability and entropy of its targets out."""

from __future__ import annotations

from collections.abc import Container, Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from transformers import PreTrainedModel, ProcessorMixin

from lightning_r1v3.backbone.adapters import add_adapters, check_adapters, initialise_adapters
from lightning_r1v3.backbone.attention import ATTENTION_NAME, AttentionLayout
from lightning_r1v3.backbone.checkpoint import checkpoint_folder, export
from lightning_r1v3.backbone.config import Attention, BackboneConfig, DType
from lightning_r1v3.backbone.families import MODULE_GROUPS, ModuleGroup, family_of
from lightning_r1v3.backbone.gather import (
    WholeWeight,
    check_size,
    copy_weights,
    empty_copy,
    weight_list,
    whole_weights,
)
from lightning_r1v3.backbone.load import build_on_meta, load_model, load_processor
from lightning_r1v3.backbone.meta import load_shards, materialise
from lightning_r1v3.backbone.packed_layout import PackedLayout
from lightning_r1v3.backbone.positions import packed_positions
from lightning_r1v3.backbone.sharding import Sharding, shard
from lightning_r1v3.backbone.stitch import stitch
from lightning_r1v3.backbone.trainable import GroupReport, freeze_all_but, group_parameters, trainable_report
from lightning_r1v3.objectives.token_stats import linear_logprob_entropy
from lightning_r1v3.types import TokenBatch, TokenStats


class Backbone(nn.Module):
    """A Hugging Face vision-language model behind one contract.

    `forward` is the root that a sharding strategy wraps and the only place that runs the fused pass: nothing outside
    reads a weight. The model's module groups are always `vision_tower`, `connector` and `language_model`.
    """

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, *, flash: bool = False) -> None:
        """Wraps a model whose language model runs our attention.

        Args:
            model: From `load_model` or `stitch`.
            processor: Its processor, for the exports.
            flash: Use flash-attention for packed rows.
        """
        super().__init__()
        chosen = model.get_decoder().config._attn_implementation
        assert chosen == ATTENTION_NAME, f"the language model runs {chosen}, which would look across samples"
        self.model = model
        self.processor = processor
        self.flash = flash
        self.family = family_of(model.config.model_type)
        self.sharding: Sharding | None = None
        """How the parameters are sharded; None where they are whole."""
        self.is_quantised = False
        """Whether some frozen weights are 4-bit ones."""
        self._gathered: tuple[Backbone, ...] = ()  # in a tuple, so that it is no submodule: it is in no checkpoint

    @classmethod
    def from_config(
        cls, config: BackboneConfig, *, device_type: str = "cpu", sharding: Sharding | None = None
    ) -> Backbone:
        """Builds the backbone that a config describes, with its frozen groups frozen.

        Args:
            config: What to load, and what of it trains.
            device_type: `cpu` or `cuda`: decides `auto` for dtype and attention.
            sharding: Shard it over the processes. Its weights are then read shard by shard: no process ever holds the
                whole model, unless its weights are random.

        Raises:
            ValueError: The folder, an override, the dtype or the attention cannot be had.
        """
        lora, trainable = config.lora, config.trainable or MODULE_GROUPS
        if lora is not None:
            check_adapters(lora, trainable, sharded=sharding is not None)
        dtype = _resolve_dtype(config.dtype, device_type)
        flash = _resolve_flash(config.attention, dtype if sharding is None else sharding.compute_dtype, device_type)
        on_meta = sharding is not None and not config.random_weights
        build = build_on_meta if on_meta else load_model
        model = build(config, dtype=dtype, vision_attention=_vision_attention(flash))
        backbone = cls(model, load_processor(config.path), flash=flash)
        if lora is not None:
            add_adapters(model, backbone.family, lora, seed=config.seed, device_type=device_type)
            backbone.is_quantised = lora.quantize is not None
        freeze_all_but(model, backbone.family, trainable, adapted=lora.groups if lora is not None else ())
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if sharding is not None:
            backbone.sharding = sharding
            shard(backbone, model, backbone.family, sharding)
            if on_meta:
                materialise(backbone, sharding.storage_device)
                load_shards(model, checkpoint_folder(config.path))
                initialise_adapters(model, config.seed)
        # Checkpoints load in evaluation mode, in which gradient checkpointing is off.
        return backbone.train()

    @classmethod
    def from_parts(
        cls,
        vision_tower: str,
        language_model: str,
        *,
        dtype: DType = "auto",
        attention: Attention = "auto",
        seed: int = 0,
        device_type: str = "cpu",
    ) -> Backbone:
        """Stitches an InternVL out of two checkpoints with a fresh connector, as R1V2 was made (paper 3.2).

        `export` it, and the folder is a checkpoint like any other; training usually starts with the connector alone.

        Args:
            vision_tower: Folder of an InternViT in transformers' format (`model_type` internvl_vision).
            language_model: Folder of a Qwen2 or Qwen3 causal language model; image tokens that its tokenizer lacks are
                added, and its embeddings grow where they must.
            dtype: As in `BackboneConfig`.
            attention: As in `BackboneConfig`.
            seed: Of the connector and of new embeddings.
            device_type: `cpu` or `cuda`: decides `auto` for dtype and attention.

        Raises:
            ValueError: A folder is not a checkpoint of its kind, or the attention cannot be had.
        """
        resolved = _resolve_dtype(dtype, device_type)
        flash = _resolve_flash(attention, resolved, device_type)
        model, processor = stitch(
            vision_tower, language_model, dtype=resolved, vision_attention=_vision_attention(flash), seed=seed
        )
        return cls(model, processor, flash=flash).train()

    def forward(self, batch: TokenBatch, *, temperature: float = 1.0, logit_bias: Tensor | None = None) -> TokenStats:
        """Returns log-probability and entropy of every target of a packed row.

        Args:
            batch: The row, on the backbone's device.
            temperature: Divisor of the logits: that of the sampling, so that both sides score alike.
            logit_bias: `[V]`, added to the logits (banned tokens).
        """
        layout = PackedLayout(batch.segments, flash=self.flash)
        hidden = self.hidden_states(batch.token_ids, self.positions(batch), layout, batch.vision)
        weight = self.model.get_output_embeddings().weight
        logprobs, entropy = linear_logprob_entropy(
            hidden[batch.predictors].to(weight.dtype), weight, batch.targets, bias=logit_bias, temperature=temperature
        )
        return TokenStats(logprobs, entropy)

    def positions(self, batch: TokenBatch) -> Tensor:
        """Returns the row's rotary positions: int64 `[1, T]`, or `[3, 1, T]` for (time, height, width)."""
        return packed_positions(
            self.model.model, batch, axes=self.family.position_axes, image_token_id=self.model.config.image_token_id
        )

    def hidden_states(
        self, token_ids: Tensor, positions: Tensor, layout: AttentionLayout, vision: dict[str, Tensor]
    ) -> Tensor:
        """Returns the last hidden states `[T, D]` of a row.

        Args:
            token_ids: int64 `[T]`.
            positions: `[1, T]`, or `[3, 1, T]`.
            layout: Which tokens see which.
            vision: The pictures' inputs; empty where the row has none.
        """
        output = self.model.model(
            input_ids=token_ids[None], position_ids=positions, layout=layout, use_cache=False, **vision
        )
        return output.last_hidden_state[0]  # type: ignore[no-any-return]

    def named_groups(self) -> dict[ModuleGroup, list[tuple[str, nn.Parameter]]]:
        """Returns names and parameters by module group."""
        return group_parameters(self.model, self.family)

    def report(self) -> list[GroupReport]:
        """Returns what trains, group by group."""
        return trainable_report(self.model, self.family)

    def whole_weights(
        self, dtype: torch.dtype | None = None, *, names: Container[str] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Yields the name and the whole tensor of each parameter, adapters merged; all ranks must take all of them.

        Args:
            dtype: Of the tensors; the parameters' own by default.
            names: Which ones, as `weight_list` names them; all by default.
        """
        return whole_weights(self.model, dtype, names=names)

    def weight_list(self) -> list[WholeWeight]:
        """Returns what `whole_weights` yields, in its order."""
        return weight_list(self.model)

    def check_gatherable(self) -> None:
        """Checks that each process may hold the whole model.

        Raises:
            ValueError: The model is larger than `sharding.max_gathered_bytes`.
        """
        if self.sharding is not None:
            check_size(self.model, self.sharding)

    def gathered(self) -> Backbone:
        """Returns the backbone with its present weights whole on this process, for decoding.

        Itself where nothing is sharded; else a copy in the compute dtype, without gradients, which the next call brings
        up to date. All ranks must reach this.

        Raises:
            ValueError: The model is larger than `sharding.max_gathered_bytes`.
        """
        if self.sharding is None:
            return self
        self.check_gatherable()
        if not self._gathered:
            copy = Backbone(empty_copy(self.model, self.sharding), self.processor, flash=self.flash)
            self._gathered = (copy.requires_grad_(False).eval(),)
        copy_weights(self.whole_weights(self.sharding.compute_dtype), self._gathered[0].model)
        return self._gathered[0]

    def export(self, path: Path) -> None:
        """Writes a folder that transformers and vLLM load as it is; it appears whole or not at all.

        Where the model is sharded all ranks must reach this: it is gathered tensor by tensor, and rank 0 writes.
        """
        if self.sharding is None:
            export(self.model, self.processor, path)
        else:
            dtype = self.sharding.compute_dtype  # what the forward pass computes with
            export(self.model, self.processor, path, dtype=dtype, is_writer=distributed.get_rank() == 0)
            distributed.barrier()

    @property
    def compute_dtype(self) -> torch.dtype:
        """What the forward pass computes in."""
        return self.sharding.compute_dtype if self.sharding is not None else next(self.model.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device


def _resolve_dtype(name: str, device_type: str) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device_type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _vision_attention(flash: bool) -> str:
    return "flash_attention_2" if flash else "sdpa"


def _resolve_flash(attention: str, dtype: torch.dtype, device_type: str) -> bool:
    """Whether flash-attention is used.

    Raises:
        ValueError: It is asked for and cannot run.
    """
    half_on_gpu = device_type == "cuda" and dtype in {torch.float16, torch.bfloat16}
    installed = find_spec("flash_attn") is not None
    if attention == "flash_attention_2" and not (half_on_gpu and installed):
        raise ValueError(
            f"attention: flash_attention_2 needs a CUDA device, bfloat16 or float16, and the flash-attn package; here: "
            f"{device_type}, {dtype}, {'installed' if installed else 'not installed'}. Use attention: auto or sdpa"
        )
    return attention != "sdpa" and half_on_gpu and installed
