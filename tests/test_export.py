from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from lightning_r1v3.backbone import Backbone, BackboneConfig
from lightning_r1v3.backbone.config import Lora
from lightning_r1v3.backbone.sharded_state import start_saving
from lightning_r1v3.export import export_checkpoint, main

BASE = Path(__file__).parents[1] / "data_shards/mini/base"


class Stage(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        for parameter in backbone.parameters():
            parameter.data.add_(0.01)


def checkpoint(run: Path, *, sharded: bool, **backbone: object) -> Stage:
    """A run's folder with one checkpoint."""
    stage = Stage(Backbone.from_config(BackboneConfig(str(BASE), **backbone)))
    path = run / "checkpoints/a.ckpt"
    path.parent.mkdir(parents=True)
    if sharded:
        start_saving(stage, [], {}, path, copy=False).wait()
    else:
        torch.save({"state_dict": stage.state_dict()}, path)
    settings = {"path": str(BASE)} | {key: vars(value) for key, value in backbone.items()}
    (run / "config.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"backbone": settings}}}))
    return stage


@pytest.mark.parametrize(("sharded", "lora"), [(True, None), (False, None), (True, Lora(rank=2))])
def test_an_exported_checkpoint_is_what_the_run_would_hand_off(tmp_path: Path, sharded: bool, lora: Lora) -> None:
    stage = checkpoint(tmp_path / "run", sharded=sharded, **({"lora": lora} if lora else {}))
    stage.backbone.export(tmp_path / "expected")
    main([str(tmp_path / "run/checkpoints/a.ckpt"), "--out", str(tmp_path / "hf")])
    names = {path.name for path in (tmp_path / "expected").iterdir()}
    assert names == {path.name for path in (tmp_path / "hf").iterdir()}
    for name in names:
        assert (tmp_path / "hf" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes(), name


def test_the_weights_may_be_rounded(tmp_path: Path) -> None:
    checkpoint(tmp_path / "run", sharded=True)
    export_checkpoint(tmp_path / "run/checkpoints/a.ckpt", tmp_path / "hf", dtype="bfloat16")
    exported = Backbone.from_config(BackboneConfig(str(tmp_path / "hf"), dtype="bfloat16"))
    assert exported.model.config.dtype == torch.bfloat16


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.yaml: give the run's config with --config"):
        export_checkpoint(tmp_path / "run/checkpoints/a.ckpt", tmp_path / "hf")
    checkpoint(tmp_path / "run", sharded=True)
    with pytest.raises(ValueError, match="no checkpoint there"):
        export_checkpoint(tmp_path / "run/checkpoints/b.ckpt", tmp_path / "hf")


def test_a_checkpoint_of_adapters_alone_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path / "run", sharded=True)
    config = {"model": {"init_args": {"backbone": {"path": str(BASE), "lora": {"quantize": "nf4"}}}}}
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match="checkpoints of QLoRA hold the adapters alone"):
        export_checkpoint(tmp_path / "run/checkpoints/a.ckpt", tmp_path / "hf")
