from __future__ import annotations

import hashlib
import io
import json
import runpy
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_r1v3.data.mini import DOMAINS, generate

BUILDER = runpy.run_path(str(Path(__file__).parents[2] / "data_shards" / "build_mini.py"))


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as shard:
        return {member.name: shard.extractfile(member).read() for member in shard}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    BUILDER["main"](["--what", "pretrain", "--out", str(folder), "--count", "100"])
    return folder


def test_the_manifest_holds_counts_and_hashes(built: Path) -> None:
    entry: dict[str, Any] = json.loads((built / "MANIFEST.json").read_text())["pretrain"]
    assert entry["samples"] == entry["normal"] + entry["hard"]
    assert 95 <= entry["samples"] <= 105
    for name, digest in entry["sha256"].items():
        assert hashlib.sha256((built / name).read_bytes()).hexdigest() == digest


def test_three_fifths_of_pre_training_are_captions(built: Path) -> None:
    files = members(built / "pretrain-00000.tar")
    sources = [json.loads(content)["source"] for name, content in files.items() if name.endswith(".json")]
    assert 0.55 <= sources.count("mini/caption") / len(sources) <= 0.65


def test_pre_training_without_a_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        BUILDER["main"](["--what", "pretrain"])
    assert "--out" in capsys.readouterr().err


def test_pictures_survive_as_small_palette_pngs() -> None:
    for sample in generate("train", 20, 0, domains=tuple(DOMAINS)):
        content = BUILDER["encode_png"](sample.images[0])
        assert len(content) <= 512
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")), np.asarray(sample.images[0]))


def test_shipped_shards_match_the_manifest() -> None:
    folder: Path = BUILDER["SHIPPED"]
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert set(manifest) == {"sft", "rl", "val", "connector", "val_domains"}
    for entry in manifest.values():
        assert entry["guess_accuracy"] <= 0.2
        for name, digest in entry["sha256"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_shipped_training_and_validation_share_no_picture_of_a_question() -> None:
    shards = {path.name.split("-")[0]: members(path) for path in BUILDER["SHIPPED"].glob("*.tar")}
    pictures = {
        name: {hashlib.sha256(content).hexdigest() for key, content in files.items() if key.endswith(".png")}
        for name, files in shards.items()
    }
    training = pictures["sft"] | pictures["rl"] | pictures["connector"]
    assert not training & (pictures["val"] | pictures["val_domains"])
    assert not pictures["val"] & pictures["val_domains"]
