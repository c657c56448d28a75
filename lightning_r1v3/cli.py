"""The command line: `lightning-r1v3 fit | validate | test | predict --config …`."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from argparse import ArgumentError
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only

from lightning_r1v3.data.datamodule import ShardDataModule
from lightning_r1v3.modules.base import VLMModule
from lightning_r1v3.modules.config_errors import explain
from lightning_r1v3.modules.preemption import Preempted
from lightning_r1v3.modules.progress_lines import ProgressLines
from lightning_r1v3.modules.ranks import leave_process_group
from lightning_r1v3.modules.run_folder import RUNS, find_checkpoint, keep_earlier_run, run_loggers
from lightning_r1v3.rollout.errors import RolloutError

log = logging.getLogger(__name__)

TRAINER_DEFAULTS = {
    "use_distributed_sampler": False,  # the datamodule splits the data by rank itself
    "num_sanity_val_steps": 0,  # validation generates: trying it out first takes long
    "log_every_n_steps": 1,
}
"""Where the trainer's defaults differ from Lightning's."""

NOISE = (
    r"Total length of `list` across ranks is zero",  # a fit without validation shards
    r"You are using a custom batch sampler `EpochBatches` for prediction",  # it leaves nothing out
    r"Experiment logs directory .* exists and is not empty",  # a resumed run goes on with its logs
    r"Checkpoint directory .* exists and is not empty",
    r"Detected call of `lr_scheduler.step\(\)` before",  # the first step was left out
    r"FSDP2-wrapped module .* returned a view tensor",  # nothing writes into the connector's output
    r"Using ModelCheckpoint with manual optimization",  # the state after the step is the one to resume from
)
"""Warnings of Lightning about what is meant to be so."""

TIPS = ("Tip: ", "Loading `train_dataloader` to estimate")
"""Messages of Lightning that tell a user nothing about the run."""


class RunConfigCallback(SaveConfigCallback):
    """Saves the configuration of a fit to `runs/NAME/config.yaml`, from where `-c` starts the same run anew."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, **kwargs: Any) -> None:
        config = config.clone()
        config["ckpt_path"] = None
        super().__init__(parser, config, overwrite=True, **kwargs)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Saves the configuration; the other subcommands leave that of the fit alone."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)


class R1V3CLI(LightningCLI):
    """LightningCLI with the run's folder, its logs, and the link between model and data."""

    def __init__(self, args: ArgsType = None) -> None:
        super().__init__(
            VLMModule,
            ShardDataModule,
            save_config_callback=RunConfigCallback,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_kwargs={"exit_on_error": False, "allow_abbrev": False}
            | {name: {"exit_on_error": False} for name in self.subcommands()},
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=args,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Returns the subcommands and the arguments of the trainer's methods that are not options."""
        # Without `weights_only` torch's own default holds: no pickle is ever loaded.
        return {name: skipped | {"weights_only"} for name, skipped in LightningCLI.subcommands().items()}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds `--name`, and takes the data's processor from the backbone's folder."""
        parser.add_argument("--name", type=str, default="run", help="results go to runs/NAME/")
        parser.link_arguments("model.init_args.backbone.path", "data.init_args.path")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses the command line.

        Raises:
            ValueError: One line on what is wrong with it.
        """
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            known = self._subcommand_parsers["fit"].get_defaults(skip_validation=True).keys()
            raise ValueError(explain(error.message or str(error), list(known))) from error

    def before_instantiate_classes(self) -> None:
        """Finds the checkpoint before anything is built."""
        config = self.config[self.subcommand]
        if config.get("ckpt_path"):
            config["ckpt_path"] = find_checkpoint(config["ckpt_path"], self.folder)

    @property
    def folder(self) -> Path:
        """Of the run."""
        return RUNS / str(self._get(self.config, "name"))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the trainer; a fit logs to CSV and TensorBoard in the run's folder, unless loggers are configured."""
        settings = self._get(self.config_init, "trainer")
        kwargs["default_root_dir"] = str(self.folder)
        if self.subcommand != "fit":
            kwargs["logger"] = settings.logger or False
        elif settings.logger is None and not settings.fast_dev_run:
            if not self._get(self.config, "ckpt_path"):
                self._refuse_own_folder()
                keep_earlier_run(self.folder)
            kwargs["logger"] = run_loggers(self.folder)
        kwargs["callbacks"] = self._callbacks(settings)
        return super().instantiate_trainer(**kwargs)

    def after_fit(self) -> None:
        """Says how the run ended and where its results are."""
        self.say_metrics()
        if not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            log.info("results: %s (metrics.csv, checkpoints/, hf/)", self.folder)

    def say_metrics(self) -> None:
        """Says the last value of every metric on one line."""
        metrics = sorted(self.trainer.callback_metrics.items())
        log.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in metrics) or "nothing was left to train")

    after_validate = after_test = say_metrics

    def _callbacks(self, settings: Namespace) -> list[Callback]:
        configured = settings.callbacks or []
        callbacks: list[Callback] = list(configured) if isinstance(configured, list) else [configured]
        if settings.fast_dev_run:  # Lightning would save a checkpoint all the same, at the end of training
            callbacks = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
        if settings.enable_progress_bar is not False and not sys.stdout.isatty():
            callbacks.append(ProgressLines())
        return callbacks

    def _refuse_own_folder(self) -> None:
        path = Path(self._get(self.config, "model").init_args.backbone.path)
        if path.absolute().is_relative_to(self.folder.absolute()):
            raise ValueError(
                f"backbone.path {path} is in the folder of this run, which starts empty: give another --name"
            )


def main(args: ArgsType = None) -> None:
    """Runs the command line; what the user can mend is said in one line."""
    _set_up_logging()
    try:
        R1V3CLI(args)
    except ValueError as error:
        ours = _raised_here(error)
        if ours is None:
            raise
        sys.exit(f"lightning-r1v3: {ours}")
    except RolloutError as error:
        leave_process_group()
        sys.exit(f"lightning-r1v3: {error}")
    except Preempted:
        leave_process_group()
        raise
    leave_process_group()


def _raised_here(error: BaseException | None) -> ValueError | None:
    """The ValueError of this package that an error is or was caused by: the argument parser wraps them in its own."""
    while error is not None:
        files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, ValueError) and files and files[-1].is_relative_to(Path(__file__).parent):
            return error
        error = error.__cause__
    return None


def _is_no_tip(record: logging.LogRecord) -> bool:
    return not any(tip in record.getMessage() for tip in TIPS)


def _set_up_logging() -> None:
    level = logging.INFO if rank_zero_only.rank == 0 else logging.WARNING  # type: ignore[attr-defined]
    logging.basicConfig(level=level, format="%(message)s")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)
