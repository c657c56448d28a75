from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lightning_r1v3 import cli

CHECKPOINT = str(Path(__file__).parents[1] / "data_shards/mini/base")
SHARDS = str(Path(__file__).parents[1] / "data_shards/mini/sft-*.tar")
CONFIG = f"""
model:
  class_path: lightning_r1v3.modules.SFT
  init_args:
    backbone: {{path: {CHECKPOINT}, random_weights: true}}
    evaluation: {{num_problems: 0, sampling: {{temperature: 1.0}}}}
data:
  class_path: lightning_r1v3.data.datamodule.ShardDataModule
  init_args:
    train: [{{shards: '{SHARDS}'}}]
trainer: {{accelerator: cpu, max_epochs: 1}}
"""

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lightning-r1v3"])
    monkeypatch.setattr(cli, "_set_up_logging", lambda: None)
    (tmp_path / "run.yaml").write_text(CONFIG)
    return tmp_path


def error(*args: str) -> str:
    with pytest.raises(SystemExit) as raised:
        cli.main(list(args))
    message = raised.value.code
    assert isinstance(message, str)  # what Python writes to stderr, with exit status 1
    assert "\n" not in message
    return message.removeprefix("lightning-r1v3: ")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--nam=x", "unknown key 'nam': did you mean 'name'?"),
        ("--trainer.max_epoch=3", "unknown key 'trainer.max_epoch': did you mean 'trainer.max_epochs'?"),
        ("--model.bakbone.path=x", "unknown key 'model.bakbone.path': did you mean 'backbone'?"),
        ("--model.evaluation.sampling.temprature=1", "did you mean 'temperature'?"),
        ("--model.optimizer.init_args.lrr=1", "unknown key 'model.optimizer.lrr': did you mean 'lr'?"),
        ("--data.train=[{shard: x}]", "unknown key 'data.train.shard': did you mean 'shards'?"),
        ("--model.class_path=lightning_r1v3.modules.STF", "lightning_r1v3.modules has no 'STF': did you mean 'SFT'?"),
        ("--trainer.max_epochs=many", "trainer.max_epochs: Expected a int, got many"),
        ("--data.batch_size=many", "data.batch_size: Expected a int, got many"),
        ("--model.max_grad_norm=-1", "model.max_grad_norm: Not of type PositiveFloat: -1"),
        ("--model.schedule.kind=cosin", "model.schedule.kind: Expected one of 'constant', 'cosine', got cosin"),
        (
            "--model.backbone.trainable=[vision]",
            "model.backbone.trainable: Expected one of 'vision_tower', 'connector'",
        ),
        ("--model.schedule.warmup_fraction=2", "expected fractions in [0, 1], got warmup_fraction 2"),
        ("--model.backbone.path=nowhere", "expected a Hugging Face folder with config.json, found no such folder"),
        ("--data.train=[{shards: nowhere/*.tar}]", "no shard matches 'nowhere/*.tar'"),
        ("--data.batch_size=0", "data.batch_size: expected at least 1, got 0"),
        ("--ckpt_path=gone.ckpt", "ckpt_path 'gone.ckpt': no such file; runs/run/checkpoints holds no checkpoint"),
        ("--ckpt_path=last", "ckpt_path 'last': no such file"),
        ("--config=gone.yaml", "config: File does not exist: "),
        ("--model.export=best", "export: best needs a ModelCheckpoint callback with `monitor`"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_wrong_is_said_in_one_line(option: str, message: str) -> None:
    assert message in error("fit", "-c", "run.yaml", "--trainer.logger=false", option)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer: {max_epocs: 3}", "unknown key 'trainer.max_epocs': did you mean 'trainer.max_epochs'?"),
        ("modl: 3", "unknown key 'modl': did you mean 'model'?"),
        ("model: [", "Problems parsing config: while parsing a flow node"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_in_one_line(folder: Path, text: str, message: str) -> None:
    (folder / "wrong.yaml").write_text(text)
    assert message in error("fit", "-c", "run.yaml", "-c", "wrong.yaml")


@pytest.mark.parametrize(
    ("args", "message"), [(["fot"], "'fot' (choose from 'fit'"), ([], "fit,validate,test,predict")]
)
def test_the_subcommand_is_needed(args: list[str], message: str) -> None:
    assert message in error(*args)


def test_a_run_on_its_own_hand_off_is_refused(folder: Path) -> None:
    own = folder / "runs/sft/hf"
    own.mkdir(parents=True)
    for file in Path(CHECKPOINT).iterdir():
        (own / file.name).write_bytes(file.read_bytes())
    assert "give another --name" in error("fit", "-c", "run.yaml", "--name=sft", "--model.backbone.path=runs/sft/hf")
    assert own.is_dir()


LOST = """
from collections.abc import Sequence
from lightning_r1v3.rollout.errors import RolloutError
from lightning_r1v3.rollout.local import LocalEngine
from lightning_r1v3.types import Example, RolloutBatch, Sampling

class Lost(LocalEngine):
    def generate(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> RolloutBatch:
        raise RolloutError("no rollout server is left")

class Unfit(LocalEngine):
    def generate(self, prompts):
        return prompts
"""
GRPO_OPTIONS = ["--model=lightning_r1v3.modules.GRPO", "--model.sampling={group_size: 2, max_new_tokens: 4}"]


@pytest.fixture
def engines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "engines_of_mine.py").write_text(LOST)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "engines_of_mine", raising=False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("engines")
def test_a_lost_engine_is_said_in_one_line_and_leaves_a_checkpoint(folder: Path) -> None:
    options = [*GRPO_OPTIONS, "--model.engine=engines_of_mine.Lost", "--data.batch_size=2"]
    assert error("fit", "-c", "run.yaml", *options) == "no rollout server is left"
    assert (folder / "runs/run/checkpoints/outage-step=0.ckpt").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("engines")
def test_a_class_that_does_not_fit_is_said_in_one_line() -> None:
    message = error("fit", "-c", "run.yaml", *GRPO_OPTIONS, "--model.engine=engines_of_mine.Unfit")
    assert (
        "engines_of_mine.Unfit is no RolloutEngine: it needs all its methods, with the same parameters and annotations"
        in message
    )


def test_errors_that_are_not_the_users_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "R1V3CLI", lambda args: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        cli.main(["fit"])
