from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_r1v3.data.datamodule import ShardDataModule, Source
from lightning_r1v3.data.mini import generate
from lightning_r1v3.data.prompt import PromptFormat
from lightning_r1v3.data.writer import ShardWriter
from lightning_r1v3.types import ExampleBatch

CHECKPOINT = str(Path(__file__).parents[2] / "data_shards/mini/base")
STEPS_PER_EPOCH, EPOCHS = 3, 2
Seen = list[tuple[int, int, tuple[str, ...]]]

pytestmark = [
    # What Lightning and the libraries below it say about themselves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization"),
    pytest.mark.filterwarnings("ignore:Total length of `list`"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:.*`IterableDataset` has `__len__` defined"),
]


class Notebook(lightning.LightningModule):
    """Notes what it is given, and learns something that depends on it."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: Seen = []

    def training_step(self, batch: ExampleBatch, batch_idx: int) -> None:
        self.seen.append((batch.epoch, batch.cursor, tuple(example.sample.id for example in batch.examples)))
        optimizer = self.optimizers()
        self.manual_backward((self.weight - batch.cursor).sum() * self.weight.sum())
        optimizer.step()
        optimizer.zero_grad()

    def validation_step(self, batch: ExampleBatch, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=0.01)


class AtEpochEnd(ModelCheckpoint):
    """A class of its own, as Lightning takes one checkpoint callback of a kind."""


@pytest.fixture
def shards(shard: Callable[..., Path], sample: Callable[..., list[Any]]) -> Path:
    return shard([member for number in range(8) for member in sample(f"k{number}", response="3</think>3")])


def datamodule(shards: Path | str, **settings: Any) -> ShardDataModule:
    settings = {"batch_size": 3, "prompt": PromptFormat(system_prompt=None)} | settings
    return ShardDataModule(CHECKPOINT, [Source(str(shards))], **settings)


def fit(data: ShardDataModule, folder: Path, *, resume: Path | None = None, epochs: int = EPOCHS) -> Notebook:
    module = Notebook()
    name = {"save_top_k": -1, "dirpath": folder, "auto_insert_metric_name": False}
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[
            ModelCheckpoint(every_n_train_steps=1, filename="{step}", **name),
            AtEpochEnd(every_n_epochs=1, save_on_train_epoch_end=True, filename="{step}-epoch-end", **name),
        ],
    )
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    return module


def assert_resumes_everywhere(make: Callable[[], ShardDataModule], folder: Path, num_checkpoints: int) -> None:
    unbroken = fit(make(), folder / "unbroken")
    assert len(unbroken.seen) == len(set(unbroken.seen)) == STEPS_PER_EPOCH * EPOCHS
    checkpoints = sorted((folder / "unbroken").glob("*.ckpt"))
    assert len(checkpoints) == num_checkpoints
    for checkpoint in checkpoints:
        resumed = fit(make(), folder / "resumed", resume=checkpoint)
        assert resumed.seen == unbroken.seen[int(checkpoint.stem.split("-")[0]) :], checkpoint
        assert torch.equal(resumed.weight, unbroken.weight)


@pytest.mark.parametrize("validated", [True, False])
def test_a_run_resumed_at_any_checkpoint_trains_the_rest(shards: Path, tmp_path: Path, validated: bool) -> None:
    val = [Source(str(shards))] if validated else None
    assert_resumes_everywhere(lambda: datamodule(shards, val=val), tmp_path, 8)


def test_a_stream_resumed_at_any_checkpoint_trains_the_rest(shards: Path, tmp_path: Path) -> None:
    assert_resumes_everywhere(lambda: datamodule(f"pipe:cat {shards}", batches_per_epoch=3), tmp_path, 8)


@pytest.mark.integration
def test_a_run_with_workers_resumed_at_any_checkpoint_trains_the_rest(shards: Path, tmp_path: Path) -> None:
    assert_resumes_everywhere(lambda: datamodule(shards, num_workers=2), tmp_path, 8)


def test_every_epoch_has_every_sample_in_an_order_of_its_own(shards: Path, tmp_path: Path) -> None:
    seen = fit(datamodule(shards), tmp_path).seen
    epochs = [[key for epoch, _, keys in seen if epoch == number for key in keys] for number in range(EPOCHS)]
    assert [sorted(epoch) for epoch in epochs] == [[f"k{number}" for number in range(8)]] * EPOCHS
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_batch_knows_the_samples_of_the_next(shards: Path, streamed: bool) -> None:
    data = datamodule(f"pipe:cat {shards}", batches_per_epoch=3) if streamed else datamodule(shards)
    batches = list(data.train_dataloader())
    ids = [[example.sample.id for example in batch.examples] for batch in batches]
    assert [[example.sample.id for example in batch.upcoming] for batch in batches] == [*ids[1:], []]


def test_the_state_is_the_last_trained_cursor_and_its_order(shards: Path, tmp_path: Path) -> None:
    fit(datamodule(shards), tmp_path, epochs=1)
    state = torch.load(tmp_path / "2.ckpt", weights_only=True)["ShardDataModule"]
    order = {"seed": 0, "batch_size": 3, "weights": None, "samples": [8], "balance_domains": False, "curriculum": None}
    assert state == {"epoch": 0, "cursor": 6, "order": order}


@pytest.mark.parametrize("change", [{"batch_size": 4}, {"seed": 1}])
def test_a_state_of_another_order_is_refused(shards: Path, change: dict[str, int]) -> None:
    state = datamodule(shards).state_dict()
    with pytest.raises(ValueError, match=f"{next(iter(change))} . is now {next(iter(change.values()))}"):
        datamodule(shards, **change).load_state_dict(state)


def test_weights_are_the_shares_of_the_sources(shard: Callable[..., Path], sample: Callable[..., list[Any]]) -> None:
    few, many = (
        shard([member for number in range(count) for member in sample(f"{count}-{number}")], f"{count}.tar")
        for count in (2, 6)
    )
    data = ShardDataModule(CHECKPOINT, [Source(str(few), 3.0), Source(str(many), 1.0)], batch_size=8)
    keys = [example.sample.id for batch in data.train_dataloader() for example in batch.examples]
    assert Counter(key[0] for key in keys) == {"2": 6, "6": 2}


@pytest.fixture
def unbalanced(shard: Callable[..., Path], sample: Callable[..., list[Any]]) -> Path:
    """Six samples of law, two of music."""
    domains = ["law"] * 6 + ["music"] * 2
    made = [sample(f"k{number}", response="3</think>3", domain=domain) for number, domain in enumerate(domains)]
    return shard([member for members in made for member in members])


def test_balanced_domains_share_every_batch(unbalanced: Path) -> None:
    data = datamodule(unbalanced, batch_size=2, balance_domains=True)
    batches = [sorted(example.sample.domain for example in batch.examples) for batch in data.train_dataloader()]
    assert batches == [["law", "music"]] * 4


def test_a_state_of_an_order_that_was_not_balanced_is_refused(unbalanced: Path) -> None:
    state = datamodule(unbalanced).state_dict()
    with pytest.raises(ValueError, match="balance_domains False is now True"):
        datamodule(unbalanced, balance_domains=True).load_state_dict(state)


def test_a_balanced_run_resumed_at_any_checkpoint_trains_the_rest(unbalanced: Path, tmp_path: Path) -> None:
    assert_resumes_everywhere(lambda: datamodule(unbalanced, balance_domains=True), tmp_path, 8)


def test_too_long_samples_are_dropped_and_counted(shards: Path) -> None:
    data = datamodule(shards, max_tokens=8)
    assert [batch.examples for batch in data.train_dataloader()] == [(), (), ()]
    assert data.num_dropped == 8


def test_validation_reads_in_file_order(shards: Path) -> None:
    loader = datamodule(shards, val=[Source(str(shards))], val_batch_size=5).val_dataloader()
    keys = [example.sample.id for batch in loader for example in batch.examples]
    assert keys == [f"k{number}" for number in range(8)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": []}, "at least one source"),
        ({"train": [Source("nowhere/*.tar")]}, "no shard matches 'nowhere"),
        ({"train": [Source("pipe:cat s.tar")]}, "data.batches_per_epoch"),
        ({"train": [Source("pipe:cat s.tar"), Source("s.tar")]}, "do not mix"),
        ({"train": [Source("a.tar", 1.0), Source("b.tar")]}, "a weight to every source or to none"),
        ({"balance_domains": True}, "several `domain`s"),
        ({"balance_domains": True, "train": [Source("a.tar", 1.0)]}, "without weights"),
        ({"batch_size": 0}, "data.batch_size: expected at least 1"),
        ({"num_workers": -1}, "num_workers and seed of at least 0"),
        ({"path": "nowhere"}, "expected a Hugging Face folder"),
    ],
)
def test_wrong_settings_are_refused(shards: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShardDataModule(**{"path": CHECKPOINT, "train": [Source(str(shards))]} | settings)


def test_validating_without_shards_is_refused(shards: Path) -> None:
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(ValueError, match=r"data\.val: validate needs shards"):
        trainer.validate(Notebook(), datamodule=datamodule(shards), verbose=False)


def test_a_curriculum_draws_the_difficulties_of_its_steps(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "train") as writer:
        for difficulty in ("normal", "hard"):
            for sample in generate("train", 4, 0, difficulty=difficulty):  # type: ignore[arg-type]
                writer.write_sample(sample)
    source = [Source(str(tmp_path / "train-*.tar"))]
    data = ShardDataModule(CHECKPOINT, source, batch_size=2, curriculum={0: ["normal"], 2: ["hard"]})
    batches = [[example.sample.difficulty for example in batch.examples] for batch in data.train_dataloader()]
    assert batches == [["normal"] * 2] * 2 + [["hard"] * 2] * 2


def test_a_curriculum_and_balanced_domains_exclude_each_other(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "train") as writer:
        for sample in generate("train", 2, 0):
            writer.write_sample(sample)
    source = [Source(str(tmp_path / "train-*.tar"))]
    with pytest.raises(ValueError, match="exclude each other"):
        ShardDataModule(CHECKPOINT, source, balance_domains=True, curriculum={0: ["normal"]})
