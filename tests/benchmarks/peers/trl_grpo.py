"""The peer's side of the GRPO benchmark: TRL's GRPOTrainer on the same model and prompts, in TRL's own environment.

Prints one JSON line: for each optimizer step its end by the wall's and the processor's clock, its phases and its
tokens; the peak of memory above the loaded model; and what TRL logged of the first step.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import transformers
import trl
from clock import Clock
from datasets import Image, List, load_dataset
from resident_memory import PeakMemory
from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback, TrainerCallback
from vowel_reward import vowels


class TimedGRPOTrainer(trl.GRPOTrainer):
    """TRL's trainer, with a note of when each phase ends."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.phases, self.prepared, self.num_tokens = [], [], []
        self.first_rollouts = None

    def _prepare_inputs(self, generation_batch):
        start = time.perf_counter()
        inputs = super()._prepare_inputs(generation_batch)
        self.prepared.append(time.perf_counter())
        self.phases[-1]["score"] = self.prepared[-1] - start - self.phases[-1]["generate"]
        return inputs

    def _generate_single_turn(self, *args, **kwargs):
        start = time.perf_counter()
        completion_ids, logprobs = super()._generate_single_turn(*args, **kwargs)
        self.phases.append({"generate": time.perf_counter() - start})
        self.num_tokens.append(sum(map(len, completion_ids)))
        self.first_rollouts = self.first_rollouts or completion_ids
        return completion_ids, logprobs


class Memory(TrainerCallback):
    """Takes the peak of memory from the first step on."""

    def __init__(self) -> None:
        self.peak = PeakMemory()

    def on_train_begin(self, *_args, **_kwargs) -> None:
        self.peak.start()


def reward(completions, **_kwargs) -> list[float]:
    return [vowels(completion[0]["content"]) for completion in completions]


def settings(folder: Path, episodes: dict, special_ids: list[int]) -> trl.GRPOConfig:
    """One gradient step an episode on all its completions at once, as in the paper and as on our side."""
    return trl.GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=episodes["num_prompts"] * episodes["group_size"],
        num_generations=episodes["group_size"],
        max_steps=episodes["num_steps"],
        max_completion_length=episodes["num_new_tokens"],
        # Tokens that our side never draws: pictures' and turns' tokens, the end of turn among them.
        generation_kwargs={"suppress_tokens": special_ids},
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        num_iterations=1,
        beta=0.0,
        epsilon=0.2,
        loss_type="grpo",
        scale_rewards="group",
        learning_rate=episodes["learning_rate"],
        lr_scheduler_type="constant",
        optim="adamw_torch",
        weight_decay=0.0,
        max_grad_norm=1.0,
        shuffle_dataset=False,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what grpo_inputs.py wrote")
    parser.add_argument("episodes", type=json.loads, help="fields of grpo_inputs.Episodes")
    parser.add_argument("--rollouts", type=Path, required=True, help="where the first episode's completions go")
    options = parser.parse_args()
    processor = AutoProcessor.from_pretrained(options.folder / "model")
    rows = load_dataset("json", data_files=str(options.folder / "rows.jsonl"), split="train")
    clock, memory = Clock(), Memory()
    trainer = TimedGRPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(options.folder / "model", dtype=torch.float32),
        processing_class=processor,
        reward_funcs=reward,
        args=settings(options.folder, options.episodes, processor.tokenizer.all_special_ids),
        train_dataset=rows.cast_column("images", List(Image())),
        callbacks=[clock, memory],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    options.rollouts.write_text(json.dumps(trainer.first_rollouts))
    first = trainer.state.log_history[0]
    phases = [
        phase | {"update": end - start}
        for phase, start, end in zip(trainer.phases, trainer.prepared, clock.ends, strict=True)
    ]
    figures = {
        "ends": clock.ends,
        "cpu_ends": clock.cpu_ends,
        "phases": phases,
        "num_tokens": trainer.num_tokens,
        "peak_bytes": memory.peak.bytes_above(),
        "first": {name: first[name] for name in ("reward", "entropy", "grad_norm")},
        "versions": {module.__name__: module.__version__ for module in (trl, transformers, torch)},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
