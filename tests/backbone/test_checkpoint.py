from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import Tiny, examples, stock_stats
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers import logging as transformers_logging

from lightning_r1v3.backbone import Backbone, BackboneConfig


def copy_of(tiny: Tiny, folder: Path, **config: object) -> Path:
    """The checkpoint with other entries in its config."""
    tiny.backbone().export(folder)
    entries = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(entries))
    return folder


def load(folder: Path, **settings: object) -> Backbone:
    return Backbone.from_config(BackboneConfig(str(folder), **settings))


def test_an_export_has_identical_logits_in_plain_transformers(any_family: Tiny, tmp_path: Path) -> None:
    backbone = any_family.backbone()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(1.01)
    backbone.export(tmp_path / "hf")
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "hf")
    assert again.config.get_text_config()._attn_implementation == "sdpa"
    stock = any_family.stock()
    stock.load_state_dict(backbone.model.state_dict())
    chosen = examples(any_family.preprocessor())
    with torch.no_grad():
        assert torch.equal(*(stock_stats(model.eval(), chosen)[0] for model in (again, stock)))


def test_an_export_names_nothing_of_ours(any_family: Tiny, tmp_path: Path) -> None:
    any_family.backbone().export(tmp_path / "hf")
    assert "r1v3" not in "".join(file.read_text() for file in (tmp_path / "hf").glob("*.json"))


def test_an_export_holds_the_processor(any_family: Tiny, tmp_path: Path) -> None:
    any_family.backbone().export(tmp_path / "hf")
    processor = AutoProcessor.from_pretrained(tmp_path / "hf")
    assert processor.chat_template == any_family.preprocessor().processor.chat_template


def test_an_export_keeps_the_dtype(internvl: Tiny, tmp_path: Path) -> None:
    internvl.backbone(dtype="bfloat16").export(tmp_path / "hf")
    weights = load_file(tmp_path / "hf" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["dtype"] == "bfloat16"


def test_an_export_replaces_an_older_one_whole(internvl: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "hf"
    (folder / "older").mkdir(parents=True)
    (folder / "older" / "file").touch()
    internvl.backbone().export(folder)
    assert not (folder / "older").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["hf"]


def test_a_failed_export_leaves_the_older_one(internvl: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = internvl.backbone()
    backbone.export(tmp_path / "hf")
    before = {path.name: path.read_bytes() for path in (tmp_path / "hf").iterdir()}
    monkeypatch.setattr(type(backbone.processor), "save_pretrained", None)
    with pytest.raises(TypeError):
        backbone.export(tmp_path / "hf")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "hf").iterdir()}


def test_leftovers_of_a_failed_export_do_not_end_up_in_the_next(internvl: Tiny, tmp_path: Path) -> None:
    for leftover in ("hf.partial", "hf.replaced"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "junk").touch()
    internvl.backbone().export(tmp_path / "hf")
    assert not (tmp_path / "hf" / "junk").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_neither_way_shows_a_progress_bar_or_leaves_bars_off(
    internvl: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    transformers_logging.enable_progress_bar()
    internvl.backbone().export(tmp_path / "hf")
    assert capfd.readouterr().err == ""
    assert transformers_logging.is_progress_bar_enabled()


@pytest.mark.parametrize(
    ("make", "found"),
    [(lambda _: None, "no such folder"), (Path.mkdir, r"found \[\]")],
    ids=["missing", "empty"],
)
def test_a_wrong_path_is_one_clear_error(make: object, found: str, tmp_path: Path) -> None:
    make(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=f"backbone.path .*nowhere.*{found}.*Nothing is downloaded"):
        load(tmp_path / "nowhere")


def test_a_hub_name_is_not_looked_up() -> None:
    with pytest.raises(ValueError, match="Nothing is downloaded"):
        load(Path("OpenGVLab/InternVL3-1B-hf"))


def test_remote_code_is_refused(internvl: Tiny, tmp_path: Path) -> None:
    folder = copy_of(internvl, tmp_path / "hf", auto_map={"AutoModel": "modeling.Evil"})
    with pytest.raises(ValueError, match=r"remote code \(auto_map\), which is never run"):
        load(folder)


def test_pickled_weights_are_refused(internvl: Tiny, tmp_path: Path) -> None:
    folder = copy_of(internvl, tmp_path / "hf")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="pickled weights are never loaded"):
        load(folder)


def test_missing_tensors_are_refused(internvl: Tiny, tmp_path: Path) -> None:
    folder = copy_of(internvl, tmp_path / "hf")
    weights = load_file(folder / "model.safetensors")
    del weights[next(name for name in weights if name.endswith("linear_1.weight"))]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 of the model's tensors.*multi_modal_projector.linear_1.weight"):
        load(folder)


def test_tensors_of_another_shape_are_refused(internvl: Tiny, tmp_path: Path) -> None:
    folder = copy_of(internvl, tmp_path / "hf")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("lm_head.weight"))
    weights[name] = weights[name][:-1].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 of the model's tensors, first \['lm_head.weight \(shape\)'\]"):
        load(folder)
