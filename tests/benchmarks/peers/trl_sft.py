"""The peer's side of the SFT benchmark: TRL's SFTTrainer on the same model and samples, in TRL's own environment.

Prints one JSON line: for each optimizer step its end by the wall's and the processor's clock, its tokens and its loss.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import transformers
import trl
from clock import Clock
from datasets import Image, List, load_dataset
from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback


class CountingCollator:
    """TRL's collator, with a count of what it makes."""

    def __init__(self, collator) -> None:
        self.collator = collator
        self.real, self.padded = [], []

    def __call__(self, examples):
        batch = self.collator(examples)
        self.real.append(int(batch["attention_mask"].sum()))
        self.padded.append(batch["input_ids"].numel())
        return batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what sft_inputs.py wrote")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    arguments = parser.parse_args()
    rows = load_dataset("json", data_files=str(arguments.folder / "rows.jsonl"), split="train")
    config = trl.SFTConfig(
        output_dir=str(arguments.folder / "trl"),
        per_device_train_batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        weight_decay=0.0,
        max_grad_norm=1.0,
        num_train_epochs=1,
        max_length=None,
        shuffle_dataset=False,
        train_sampling_strategy="sequential",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    clock = Clock()
    trainer = trl.SFTTrainer(
        model=AutoModelForImageTextToText.from_pretrained(arguments.folder / "model", dtype=torch.float32),
        processing_class=AutoProcessor.from_pretrained(arguments.folder / "model"),
        args=config,
        train_dataset=rows.cast_column("images", List(Image())),
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    collator = trainer.data_collator = CountingCollator(trainer.data_collator)
    trainer.train()
    figures = {
        "ends": clock.ends,
        "cpu_ends": clock.cpu_ends,
        "real_tokens": collator.real[: len(clock.ends)],
        "padded_tokens": collator.padded[: len(clock.ends)],
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "versions": {module.__name__: module.__version__ for module in (trl, transformers, torch)},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
