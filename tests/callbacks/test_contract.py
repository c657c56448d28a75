from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
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
from r1v3_callbacks.contract import completions

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


class CountingTokenizer:
    def __init__(self) -> None:
        self.num_calls = 0

    def decode(self, ids: list[int]) -> str:
        self.num_calls += 1
        return " ".join(map(str, ids))


def test_completions_are_decoded_once_for_all_callbacks() -> None:
    tokenizer, other = CountingTokenizer(), CountingTokenizer()
    ids, mask = torch.tensor([[1, 2, 0], [3, 4, 5]]), torch.tensor([[True, True, False], [True, True, True]])
    expected = [([1, 2], "1 2"), ([3, 4, 5], "3 4 5")]
    assert completions(ids, mask, tokenizer) == completions(ids, mask, tokenizer) == expected
    assert tokenizer.num_calls == 2
    assert completions(ids, mask, other) == expected
    assert completions(ids.clone(), mask, tokenizer) == expected
    assert completions(ids, torch.ones_like(mask), tokenizer)[0] == ([1, 2, 0], "1 2 0")
