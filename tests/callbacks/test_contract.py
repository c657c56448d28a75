from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning import Callback
from plain_text import PlainText, trainer

from r1v3_callbacks import (
    CollapseDetector,
    CriticalTokenEntropy,
    DomainShiftAlarm,
    HallucinationMonitor,
    Keys,
    ThroughputMonitor,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]

READERS = [CollapseDetector, CriticalTokenEntropy, DomainShiftAlarm, HallucinationMonitor, ThroughputMonitor]


class Renamed(PlainText):
    def outputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        outputs = super().outputs(batch)
        return {"loss" if name == "loss" else f"my_{name}": value for name, value in outputs.items()}


def fit(folder: Path, callback: Callback) -> Any:
    run = trainer(folder, [callback], max_epochs=1, limit_val_batches=0, enable_checkpointing=False)
    run.fit(Renamed())
    return run


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_entries_may_have_other_names(reader: Any, tmp_path: Path) -> None:
    names = {name: f"my_{name}" for name in vars(Keys()) if name not in ("loss", "tokenizer")}
    fit(tmp_path, reader(keys=Keys(**names)))


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_a_missing_entry_is_an_error_that_lists_those_that_are_there(reader: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{reader.__name__} needs .*found .*'my_token_ids'"):
        fit(tmp_path, reader())


def test_a_missing_tokenizer_is_an_error(tmp_path: Path) -> None:
    run = trainer(tmp_path, [CriticalTokenEntropy(keys=Keys(tokenizer="words"))], limit_val_batches=0,
                  enable_checkpointing=False)  # fmt: skip
    with pytest.raises(ValueError, match=r"PlainText\.words"):
        run.fit(PlainText())
