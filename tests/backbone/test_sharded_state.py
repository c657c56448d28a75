from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_r1v3.backbone.shard_files import file_name
from lightning_r1v3.backbone.sharded_state import (
    is_sharded_checkpoint,
    load_checkpoint,
    load_weights,
    recover_checkpoints,
    remove_checkpoint,
    start_saving,
)

REST = {"global_step": 3, "callbacks": {"a": {"best": torch.tensor(0.5)}}}


def trained(seed: int, width: int = 4) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2))
    module[0].bias.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=0.1 * (seed + 1))
    module(torch.ones(5, 3)).sum().backward()
    optimizer.step()
    return module, optimizer


def save(path: Path, seed: int = 0, *, copy: bool = False) -> tuple[nn.Module, torch.optim.Optimizer]:
    module, optimizer = trained(seed)
    start_saving(module, [optimizer], REST, path, copy=copy).wait()
    return module, optimizer


def test_module_optimizer_and_the_rest_come_back(tmp_path: Path) -> None:
    module, optimizer = save(tmp_path / "a.ckpt")
    other, other_optimizer = trained(1)
    rest = load_checkpoint(other, [other_optimizer], tmp_path / "a.ckpt")
    assert rest == REST
    torch.testing.assert_close(other.state_dict(), module.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(other_optimizer.state_dict(), optimizer.state_dict(), rtol=0, atol=0)


def test_a_fresh_optimizer_takes_the_state_over(tmp_path: Path) -> None:
    _, optimizer = save(tmp_path / "a.ckpt")
    module, _ = trained(1)
    fresh = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad])
    load_checkpoint(module, [fresh], tmp_path / "a.ckpt")
    torch.testing.assert_close(fresh.state_dict(), optimizer.state_dict(), rtol=0, atol=0)


def test_training_may_go_on_while_it_is_written(tmp_path: Path) -> None:
    module, optimizer = trained(0)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    saving = start_saving(module, [optimizer], REST, tmp_path / "a.ckpt", copy=True)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    saving.wait()
    load_weights(module, tmp_path / "a.ckpt")
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)


def test_an_older_checkpoint_is_replaced_and_nothing_is_left_beside(tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt")
    (tmp_path / "a.ckpt.partial").mkdir()  # of a killed run
    (tmp_path / "a.ckpt.partial/shard-00001-of-00002.safetensors").touch()
    module, _ = save(tmp_path / "a.ckpt", seed=1)
    other, _ = trained(2)
    load_weights(other, tmp_path / "a.ckpt")
    torch.testing.assert_close(other.state_dict(), module.state_dict(), rtol=0, atol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_run_killed_between_the_two_renames_has_its_older_checkpoint(tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt")
    (tmp_path / "a.ckpt").rename(tmp_path / "a.ckpt.replaced")
    recover_checkpoints(tmp_path)
    assert is_sharded_checkpoint(tmp_path / "a.ckpt")


def test_a_removed_checkpoint_is_gone(tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt")
    for _ in range(2):
        remove_checkpoint(tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_a_run_killed_while_it_removes_a_checkpoint_leaves_nothing_to_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.ckpt")
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
        remove_checkpoint(tmp_path / "a.ckpt")
    assert list(tmp_path.glob("*.ckpt")) == []
    recover_checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_without_the_file_of_a_process_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt")
    (tmp_path / "a.ckpt" / file_name(0, 1)).rename(tmp_path / "a.ckpt" / file_name(0, 2))
    with pytest.raises(ValueError, match="is not whole: expected the files of 2 processes, got 1"):
        load_weights(trained(0)[0], tmp_path / "a.ckpt")


def test_what_cannot_be_written_is_an_error_where_it_is_waited_for(tmp_path: Path) -> None:
    module, optimizer = trained(0)
    saving = start_saving(module, [optimizer], {"step": lambda: 0}, tmp_path / "a.ckpt", copy=False)
    with pytest.raises(OSError, match="could not be written"):
        saving.wait()
    assert not (tmp_path / "a.ckpt").exists()


def test_a_checkpoint_in_one_file_is_refused(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="is a checkpoint in one file: VLMFSDPStrategy resumes from the folders"):
        load_weights(nn.Linear(2, 2), tmp_path / "a.ckpt")


def test_the_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt")
    module, _ = trained(0, width=5)
    with pytest.raises(ValueError, match=r"3 tensors .*first module.0.weight: expected \[5, 3\], got \[4, 3\]"):
        load_weights(module, tmp_path / "a.ckpt")


def test_the_checkpoint_of_other_trained_groups_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt")
    module, _ = trained(0)
    optimizer = torch.optim.AdamW(module.parameters())
    with pytest.raises(ValueError, match=r"groups of \[3\] parameters, this run's of \[4\]: resume with the same"):
        load_checkpoint(module, [optimizer], tmp_path / "a.ckpt")


def test_pickled_objects_in_the_rest_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt")
    torch.save({"optimizer_settings": [], "evil": Path("x")}, tmp_path / "a.ckpt/rest.pt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        load_checkpoint(*[trained(0)[0], []], tmp_path / "a.ckpt")
