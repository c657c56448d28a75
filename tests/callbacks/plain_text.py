"""A plain text model in Lightning, and a run of it as a script: what a project that has nothing of ours looks like."""

from __future__ import annotations

import argparse
import gc
import json
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from torch import distributed
from torch.utils.data import DataLoader, Dataset, DistributedSampler

import r1v3_callbacks
from r1v3_callbacks import (
    CheckpointRanker,
    CollapseDetector,
    CriticalTokenEntropy,
    DomainShiftAlarm,
    HallucinationMonitor,
    Recovery,
    ThroughputMonitor,
)

PAD, END = 0, 1
WORDS = ["", "</think>", "Wait", "Alter", "natively", ",", " so", " it", " is", " red", " blue", ".", " I", " cannot",
         " see", " the", " image"]  # fmt: skip
NUM_TEXTS, LENGTH = 16, 12


class Tokenizer:
    def decode(self, ids: list[int]) -> str:
        return "".join(WORDS[index] for index in ids)


class Texts(Dataset[dict[str, Any]]):
    """Random texts of all lengths; each time that it is asked for number i it gives the same one."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= NUM_TEXTS:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(index)
        length = int(torch.randint(4, LENGTH + 1, (), generator=generator))
        ids = torch.randint(2, len(WORDS), (length,), generator=generator)
        ids[length // 2] = END
        accuracy = float(torch.rand((), generator=generator) < 0.5)
        return {"ids": ids, "accuracy": accuracy, "domain": "AB"[index % 2], "difficulty": "normal"}

    def __len__(self) -> int:
        return NUM_TEXTS


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    ids = torch.full((len(samples), LENGTH), PAD)
    for row, sample in zip(ids, samples, strict=True):
        row[: len(sample["ids"])] = sample["ids"]
    accuracy = torch.tensor([sample["accuracy"] for sample in samples])
    return {"ids": ids, "accuracy": accuracy} | {
        key: [sample[key] for sample in samples] for key in ("domain", "difficulty")
    }


class PlainText(LightningModule):
    """Predicts each token from the one before."""

    def __init__(self, *, manual: bool = False, accumulate: int = 1, lr: float = 0.1, decay: float = 1.0) -> None:
        super().__init__()
        self.automatic_optimization = not manual
        self.accumulate = accumulate
        self.lr, self.decay = lr, decay
        self.tokenizer = Tokenizer()
        torch.manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(len(WORDS), len(WORDS)))

    def outputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        ids, mask = batch["ids"], batch["ids"] != PAD
        before = torch.nn.functional.pad(ids, (1, 0), value=END)[:, :-1]
        logprobs = self.table[before].log_softmax(dim=-1)
        entropy = -(logprobs.exp() * logprobs).sum(dim=-1)
        loss = -logprobs.gather(2, ids[..., None]).squeeze(2)[mask].sum() / (NUM_TEXTS * LENGTH)
        return {
            "loss": loss,
            "token_entropy": entropy.detach(),
            "token_ids": ids,
            "token_mask": mask,
            "rewards": batch["accuracy"],
            "accuracy": batch["accuracy"],
            "domain": batch["domain"],
            "difficulty": batch["difficulty"],
            "phase_seconds": {"update": 1e-6},
        }

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        outputs = self.outputs(batch)
        # Lightning averages over micro-batches, DDP over processes; the loss is a share of a sum.
        outputs["loss"] = outputs["loss"] * self.trainer.accumulate_grad_batches * self.trainer.world_size
        if not self.automatic_optimization:
            self.manual_backward(outputs["loss"])
            outputs["loss"] = outputs["loss"].detach()
            if (batch_idx + 1) % self.accumulate == 0:
                self.optimizers().step()  # type: ignore[union-attr]
                self.optimizers().zero_grad()  # type: ignore[union-attr]
                self.lr_schedulers().step()  # type: ignore[union-attr]
        return outputs

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        outputs = self.outputs(batch)
        right = batch["accuracy"].sum()
        self.log("val/accuracy", right / len(batch["accuracy"]), batch_size=len(batch["accuracy"]), sync_dist=True)
        return outputs

    def _loader(self, batch_size: int) -> DataLoader[dict[str, Any]]:
        sampler = DistributedSampler(Texts(), self.trainer.world_size, self.trainer.global_rank, shuffle=False)
        return DataLoader(Texts(), batch_size=batch_size, sampler=sampler, collate_fn=collate)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        accumulate = max(self.accumulate, self.trainer.accumulate_grad_batches)
        # Two steps an epoch, whatever the number of processes and micro-batches.
        return self._loader(NUM_TEXTS // (2 * accumulate * self.trainer.world_size))

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._loader(4)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.decay**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def trainer(folder: Path, callbacks: list[Callback], **settings: Any) -> Trainer:
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    defaults = {"logger": CSVLogger(str(folder), "", ""), "log_every_n_steps": 1, "devices": 1, "max_epochs": 2}
    return Trainer(**quiet, **(defaults | {"callbacks": callbacks, "num_sanity_val_steps": 0} | settings))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--manual", action="store_true")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--resume", type=Path)
    arguments = parser.parse_args()
    seed_everything(0)
    callbacks = [
        CriticalTokenEntropy(high_entropy_quantile=0.8, stages=("train", "val")),
        HallucinationMonitor(stages=("train", "val")),
        DomainShiftAlarm(group="domain", block=4),
        ThroughputMonitor(peak_flops=1e12),
        CollapseDetector(action="rollback", recovery=Recovery(every_n_steps=2, trial_steps=2)),
        CheckpointRanker(weights={"train/critical_token_entropy": 1.0}),
    ]
    run = trainer(
        arguments.folder,
        callbacks,
        devices=arguments.devices,
        strategy="ddp" if arguments.devices > 1 else "auto",
        max_epochs=arguments.epochs,
        accumulate_grad_batches=1 if arguments.manual else arguments.accumulate,
        # Under manual optimization Lightning counts batches.
        log_every_n_steps=arguments.accumulate if arguments.manual else 1,
        use_distributed_sampler=False,
    )
    module = PlainText(manual=arguments.manual, accumulate=arguments.accumulate if arguments.manual else 1)
    run.fit(module, ckpt_path=arguments.resume)
    if run.is_global_zero:
        said = {"step": run.global_step, "package": r1v3_callbacks.__file__}
        (arguments.folder / "said.json").write_text(json.dumps(said))
    if distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
