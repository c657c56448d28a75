"""FSDP2 for vision-language models: parameters, gradients and optimizer state in shards over all processes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse.typing import PositiveFloat
from lightning import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from lightning_r1v3.backbone.sharded_state import Saving, load_checkpoint, load_weights, remove_checkpoint, start_saving
from lightning_r1v3.backbone.sharding import Sharding

ComputeDType = Literal["auto", "float32", "bfloat16"]
GIB = 2**30
TIMEOUT = timedelta(minutes=30)
"""Of a collective: the longest that one process may wait for another, say for its rollouts."""


class VLMFSDPStrategy(ModelParallelStrategy):
    """Shards each vision block, the connector, each decoder layer, and the rest as the root.

    Checkpoints are folders to which every process writes its own shards, aside, renamed when all are there. They
    resume on any number of processes.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (the keys of the strategy in a YAML)
        self,
        hybrid: bool = False,
        compute_dtype: ComputeDType = "auto",
        reduce_dtype: Literal["float32", "bfloat16"] = "float32",
        reshard_after_forward: bool = True,
        cpu_offload: bool = False,
        compile_blocks: bool = False,
        async_checkpoints: bool = False,
        max_gathered_gib: PositiveFloat = 16.0,
        timeout: timedelta = TIMEOUT,
    ) -> None:
        """Stores the settings.

        Args:
            hybrid: Shard over the processes of a node and replicate across nodes, which sends less between them;
                otherwise shard over all processes.
            compute_dtype: Of the forward and backward pass; `auto`: bfloat16 on GPUs, float32 on CPUs. Shards and
                optimizer keep `backbone.dtype`, for which float32 is advised.
            reduce_dtype: In which gradients are added up over the processes.
            reshard_after_forward: Gather parameters again in the backward pass: less memory, more traffic.
            cpu_offload: Keep shards and optimizer state in the CPU's memory.
            compile_blocks: Run vision blocks and decoder layers through `torch.compile`.
            async_checkpoints: Write checkpoints while training goes on; costs a copy of the shards in CPU memory.
            max_gathered_gib: Largest model, in the compute dtype, of which local rollouts may make a whole copy on each
                process; larger ones need a rollout server.
            timeout: Of a collective.
        """
        super().__init__(data_parallel_size=1, tensor_parallel_size=1, timeout=timeout)
        self._hybrid = hybrid
        self._compute_dtype = compute_dtype
        self._reduce_dtype = reduce_dtype
        self._reshard_after_forward = reshard_after_forward
        self._cpu_offload = cpu_offload
        self._compile_blocks = compile_blocks
        self._async_checkpoints = async_checkpoints
        self._max_gathered_bytes = int(max_gathered_gib * GIB)
        self._mesh: DeviceMesh | None = None
        self._saving: Saving | None = None

    def sharding(self) -> Sharding:
        """Returns how the backbone is to be sharded on this process."""
        assert self._mesh is not None, "the processes are set up before the model is built"
        on_gpu = self.root_device.type == "cuda"
        name = ("bfloat16" if on_gpu else "float32") if self._compute_dtype == "auto" else self._compute_dtype
        return Sharding(
            mesh=self._mesh,
            device=self.root_device,
            compute_dtype=getattr(torch, name),
            reduce_dtype=getattr(torch, self._reduce_dtype),
            reshard_after_forward=self._reshard_after_forward,
            cpu_offload=self._cpu_offload,
            compile_blocks=self._compile_blocks,
            max_gathered_bytes=self._max_gathered_bytes,
        )

    def setup_environment(self) -> None:
        """Joins the processes and lays out their mesh.

        Raises:
            ValueError: Something here does not go with FSDP2.
        """
        on_gpu = self.root_device.type == "cuda"
        if self._cpu_offload and not on_gpu:
            raise ValueError("cpu_offload moves shards from a GPU to the CPU, and this run is on the CPU: leave it out")
        if self.precision_plugin.precision != "32-true":
            raise ValueError(
                f"trainer.precision {self.precision_plugin.precision}: with VLMFSDPStrategy leave it at 32-true and "
                "set the strategy's compute_dtype: bfloat16, which keeps the weights that the optimizer sees in float32"
            )
        if on_gpu:
            self._process_group_backend = "cpu:gloo,cuda:nccl"  # offloaded gradients are reduced on the CPU
        # Lightning's "auto" would mean tensor parallelism.
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()
        shape: tuple[int, ...] = (self.num_nodes, self.num_processes) if self._hybrid else (self.world_size,)
        names = ("replicate", "shard") if self._hybrid else ("shard",)
        self._mesh = init_device_mesh(self.root_device.type, shape, mesh_dim_names=names)

    def setup(self, trainer: Trainer) -> None:
        """Readies model and optimizers.

        Raises:
            ValueError: The model is not sharded, or an optimizer cannot step shards.
        """
        assert any(isinstance(module, FSDPModule) for module in trainer.lightning_module.modules())
        super().setup(trainer)
        for optimizer in self.optimizers:
            check_optimizer(optimizer)

    def model_to_device(self) -> None:
        """Moves nothing: parameters and buffers are built where they belong."""

    def barrier(self, name: str | None = None) -> None:  # noqa: ARG002 (Lightning's signature)
        """Waits for all processes."""
        if torch.distributed.is_initialized():
            devices = self._determine_device_ids() if self.root_device.type == "cuda" else None
            torch.distributed.barrier(device_ids=devices)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Returns the module's state: this process's shards as DTensors."""
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:  # noqa: ARG002 (Lightning's signature)
        """Returns nothing: `save_checkpoint` takes the state from the optimizers themselves, by parameter names."""
        return {}

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        """Writes a folder `filepath`: every process its shards, rank 0 the rest; all ranks must reach this.

        It appears whole or not at all.

        Args:
            checkpoint: From Lightning; its `state_dict` and `optimizer_states` are left out of the rest.
            filepath: Of the folder; an older one there is replaced.
            storage_options: None.
        """
        assert storage_options is None, "checkpoints go to a file system that all processes share"
        assert self.lightning_module is not None
        self.finish_saving()
        path = Path(self.broadcast(str(filepath)))
        rest = {name: value for name, value in checkpoint.items() if name not in {"state_dict", "optimizer_states"}}
        optimizers = [getattr(optimizer, "optimizer", optimizer) for optimizer in self.optimizers]
        self.barrier()
        self._saving = start_saving(self.lightning_module, optimizers, rest, path, copy=self._async_checkpoints)
        if not self._async_checkpoints:
            self.finish_saving()

    def finish_saving(self) -> None:
        """Waits until the checkpoint being written is whole on disk; all ranks must reach this."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.wait()
            self.barrier()

    def load_checkpoint(
        self,
        checkpoint_path: str | Path,
        weights_only: bool | None = None,  # noqa: ARG002 (Lightning's signature)
    ) -> dict[str, Any]:
        """Loads weights and optimizer state from a folder; returns the rest.

        Args:
            checkpoint_path: The folder, written by any number of processes.
            weights_only: True or None: nothing is ever unpickled.

        Raises:
            ValueError: It is no checkpoint of this strategy, or of another model.
        """
        assert self.lightning_module is not None
        self.finish_saving()
        return load_checkpoint(self.lightning_module, self.optimizers, Path(self.broadcast(str(checkpoint_path))))

    def load_weights(self, path: Path) -> None:
        """Loads the module's weights alone; all ranks must reach this."""
        assert self.lightning_module is not None
        self.finish_saving()
        load_weights(self.lightning_module, path)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Does nothing: `load_checkpoint` has done it."""

    def remove_checkpoint(self, filepath: str | Path) -> None:
        """Removes a checkpoint folder; all ranks must reach this."""
        self.finish_saving()
        if self.is_global_zero:
            remove_checkpoint(Path(filepath))

    def teardown(self) -> None:
        """Waits for the last checkpoint."""
        self.finish_saving()
        super().teardown()


def check_optimizer(optimizer: Optimizer) -> None:
    """Checks that an optimizer can step sharded parameters.

    Raises:
        ValueError: It is one of bitsandbytes, whose kernels do not know shards.
    """
    kind = type(getattr(optimizer, "optimizer", optimizer))
    if kind.__module__.startswith("bitsandbytes"):
        raise ValueError(
            f"optimizer {kind.__name__}: bitsandbytes cannot step the sharded parameters of FSDP2. Take "
            "torch.optim.AdamW, whose state FSDP2 shards (and cpu_offload, if it must be smaller still), or train on "
            "one process per model (trainer.strategy: auto or ddp)"
        )
