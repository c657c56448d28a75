from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_r1v3.backbone import BackboneConfig
from lightning_r1v3.backbone.load import load_processor
from lightning_r1v3.data.mini import generate
from lightning_r1v3.data.preprocess import Preprocessor
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.modules import SFT
from lightning_r1v3.types import Example

CHECKPOINT = str(Path(__file__).parents[2] / "data_shards/mini/base")


@pytest.fixture(scope="session")
def preprocessor() -> Preprocessor:
    return Preprocessor(load_processor(CHECKPOINT), PromptFormat(system_prompt=None))


@pytest.fixture(scope="session")
def examples(preprocessor: Preprocessor) -> list[Example]:
    made = [preprocessor(sample) for sample in generate("train", 5, seed=0)]
    return [example for example in made if example is not None]


class Stage(SFT):
    """SFT by hand: its gradients and its logged values can be looked at."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.logged: dict[str, Any] = {}

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        self.logged[name] = value

    def log_dict(self, values: Any, *args: Any, **kwargs: Any) -> None:
        self.logged |= values

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward()

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self._optimizer

    def lr_schedulers(self) -> Any:
        return self._scheduler

    def ready(self, preprocessor: Preprocessor, total_steps: int = 10) -> Stage:
        strategy = SimpleNamespace(root_device=torch.device("cpu"), model=self)
        datamodule = SimpleNamespace(preprocessor=preprocessor)
        self._trainer = SimpleNamespace(
            strategy=strategy,
            datamodule=datamodule,
            world_size=1,
            global_rank=0,
            is_global_zero=True,
            global_step=0,
            estimated_stepping_batches=total_steps,
        )
        self._fabric = None
        self.configure_model()
        made = self.configure_optimizers()
        self._optimizer, self._scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
        return self

    @property
    def trainer(self) -> Any:
        return self._trainer


Make = Callable[..., Stage]


@pytest.fixture
def stage(preprocessor: Preprocessor) -> Make:
    def make(*, trainable: Sequence[str] = ("vision_tower", "connector", "language_model"), **settings: Any) -> Stage:
        backbone = BackboneConfig(CHECKPOINT, trainable=list(trainable), random_weights=True)
        return Stage(backbone, **settings).ready(preprocessor)

    return make
