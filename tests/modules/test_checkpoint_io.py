from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from lightning_r1v3.modules.checkpoint_io import WholeCheckpointIO


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    WholeCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(2)}, "epoch": 1}, tmp_path / "new/a.ckpt")
    loaded = WholeCheckpointIO().load_checkpoint(tmp_path / "new/a.ckpt")
    assert loaded["epoch"] == 1
    assert torch.equal(loaded["state_dict"]["a"], torch.ones(2))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.ckpt"]


def test_a_failed_save_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    WholeCheckpointIO().save_checkpoint({"epoch": 1}, tmp_path / "a.ckpt")
    with pytest.raises((AttributeError, pickle.PicklingError)):
        WholeCheckpointIO().save_checkpoint({"epoch": lambda: 2}, tmp_path / "a.ckpt")
    assert WholeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt") == {"epoch": 1}


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    torch.save({"evil": Path("x")}, tmp_path / "a.ckpt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        WholeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt", weights_only=False)
