"""Both sides of the gloo backend in one process, with a model that is no vLLM's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from served_policy import NEEDS_VLLM
from torch import Tensor, nn

pytestmark = NEEDS_VLLM

TIMEOUT_S = 60.0
SHAPES = {"large": (1200, 1024), "small": (3,), "larger": (2048, 1024), "another": (5, 7)}


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterDict({name: torch.zeros(shape) for name, shape in SHAPES.items()})
        self.refused = ""

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        for name, weight in weights:
            if name == self.refused:
                raise ValueError(f"no room for {name}")
            self.weights[name].data.copy_(weight)


class Source:
    """Weights that are all as large as the number of the pass."""

    def __init__(self) -> None:
        self.number = 0

    def metadata(self) -> list[Any]:
        return [SimpleNamespace(name=name, dtype=torch.float32, shape=shape) for name, shape in SHAPES.items()]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        self.number += 1
        return ((name, torch.full(shape, float(self.number))) for name, shape in SHAPES.items())


class Server:
    """What a trainer engine asks of servers, done by a worker in this process."""

    def __init__(self, worker: Any) -> None:
        self.init_weight_transfer_engine = lambda info: worker.init_transfer_engine(worker.init_info_cls(**info))
        self.start_weight_update = worker.start_weight_update
        self.update_weights = worker.update_weights
        self.finish_weight_update = worker.finish_weight_update


@pytest.fixture(params=["shared memory", "sockets"])
def sides(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Model]]:
    """The trainer's engine and the model that follows it."""
    from lightning_r1v3.rollout import gloo, gloo_trainer  # noqa: PLC0415

    monkeypatch.setattr(gloo, "MAX_BYTES_KEPT", 6 * 2**20)  # less than the model
    model = Model()
    parallel = SimpleNamespace(data_parallel_index=0, world_size=1, rank=0)
    config: Any = SimpleNamespace(parallel_config=parallel, model_config=None)
    worker = gloo.GlooTransferEngine(SimpleNamespace(), config, torch.device("cpu"), model)  # type: ignore[arg-type]
    info = gloo_trainer.GlooTrainerInitInfo(
        host="127.0.0.1",
        world_size=2,
        timeout_s=TIMEOUT_S,
        share_memory=request.param == "shared memory",
        rank=0,
    )
    trainer = gloo_trainer.GlooTrainerEngine.trainer_init(info, client=Server(worker), source=Source())  # type: ignore[arg-type]
    yield trainer, model
    trainer.shutdown()
    worker.shutdown()


def send(trainer: Any) -> None:
    trainer.send_weights()
    trainer.finish()


def test_all_weights_follow(sides: tuple[Any, Model]) -> None:
    trainer, model = sides
    for number in (1, 2, 3):
        send(trainer)
        assert all(bool((weight == number).all()) for weight in model.weights.values())


@pytest.mark.parametrize("name", ["large", "another"])
def test_weights_that_are_not_loaded_are_an_error_at_once(sides: tuple[Any, Model], name: str) -> None:
    trainer, model = sides
    model.refused = name
    start = time.monotonic()
    with pytest.raises(ValueError, match=f"no room for {name}"):
        send(trainer)
    assert time.monotonic() - start < TIMEOUT_S / 2
