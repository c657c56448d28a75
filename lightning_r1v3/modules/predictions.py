"""Writes the completions of `predict` to a file that people and programs read."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from lightning_r1v3.modules.completions import Completion
from lightning_r1v3.modules.ranks import gather_across_ranks

log = logging.getLogger(__name__)

FILE_NAME = "predictions.jsonl"


class PredictionWriter(Callback):
    """Appends the completions of each batch of all ranks to `RUN/predictions.jsonl`, one JSON object a line."""

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the file anew."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # all ranks must reach this: it broadcasts
        self._path = folder / FILE_NAME
        self._num_written = 0
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            self._path.write_text("")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: list[dict[str, Any]],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Appends the batch; all ranks must reach this."""
        gathered = [line for part in gather_across_ranks(outputs, trainer) for line in part]
        self._num_written += len(gathered)
        if trainer.is_global_zero:
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(line, ensure_ascii=False)}\n" for line in gathered)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says where they are."""
        if trainer.is_global_zero:
            log.info("%d completions are in %s", self._num_written, self._path)


def prediction(completion: Completion) -> dict[str, Any]:
    """Returns a completion as a JSON object: `id`, `question`, `answer`, `completion`, `correct` and its kind."""
    sample = completion.sample
    return {
        "id": sample.id,
        "question": sample.question,
        "answer": sample.answer,
        "completion": completion.text,
        "correct": bool(completion.accuracy),
        "well_formed": bool(completion.format),
        "domain": sample.domain,
        "difficulty": sample.difficulty,
    }
