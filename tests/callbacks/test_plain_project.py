"""The callbacks, from the built wheel, in a project that has nothing else of ours."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/architecture"))

from test_packages import built_wheel  # noqa: E402

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

# Stands for an environment without the trainer; there, torchvision and torch come from one place.
SITE = """
import sys
sys.modules["lightning_r1v3"] = None
import torch
from importlib.machinery import PathFinder
from importlib.util import find_spec

compiled = PathFinder.find_spec("_C", find_spec("torchvision").submodule_search_locations)
try:
    torch.ops.load_library(compiled.origin)
except OSError:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
NOT_COMPARED = ("throughput/", "step")

Run = Callable[..., list[dict[str, float]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    with zipfile.ZipFile(built_wheel(folder)) as wheel:
        wheel.extractall(folder / "site")
    shutil.rmtree(folder / "site/lightning_r1v3")
    (folder / "site/sitecustomize.py").write_text(SITE)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    def rows(name: str, *options: str) -> list[dict[str, float]]:
        line = [sys.executable, str(Path(__file__).with_name("plain_text.py")), str(folder / name), *options]
        environment = os.environ | {"PYTHONPATH": str(folder / "site"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said = json.loads((folder / name / "said.json").read_text())
        assert said == {"step": 4, "package": str(folder / "site/r1v3_callbacks/__init__.py")}
        with (folder / name / "metrics.csv").open() as file:
            return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]

    return rows


@pytest.fixture(scope="module")
def plain(run: Run) -> list[dict[str, float]]:
    return run("plain")


def assert_same(rows: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert len(rows) == len(expected)
    for row, want in zip(rows, expected, strict=True):
        assert row.keys() == want.keys()
        compared = {key: value for key, value in want.items() if not key.startswith(NOT_COMPARED)}
        assert {key: row[key] for key in compared} == pytest.approx(compared, rel=1e-4, abs=1e-6)


def test_each_callback_logs(plain: list[dict[str, float]]) -> None:
    names = {name for row in plain for name in row}
    assert {
        "train/critical_token_entropy",
        "train/critical_token_entropy/after",
        "train/high_entropy_fraction",
        "val/critical_token_entropy",
        "train/hallucination/any",
        "val/hallucination/accuracy_others",
        "train/accuracy/A",
        "throughput/tokens_per_second",
        "throughput/update_share",
        "throughput/mfu",
        "collapse/severity",
    } <= names


def test_the_ranking_and_its_checkpoints_are_there(plain: list[dict[str, float]], folder: Path) -> None:
    with (folder / "plain/ranked/ranking.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {int(row["step"]) for row in rows} == {2, 4}
    assert {"score", "train/critical_token_entropy", "val/accuracy", "spearman", "spearman_low"} <= rows[0].keys()
    best = torch.load(folder / "plain/ranked/best.ckpt", weights_only=True)
    assert best["global_step"] == int(rows[0]["step"])


def test_manual_optimization_with_accumulation_measures_the_same(run: Run, plain: list[dict[str, float]]) -> None:
    assert_same(run("manual", "--manual", "--accumulate", "2"), plain)


def test_two_processes_with_accumulation_measure_the_same(run: Run, plain: list[dict[str, float]]) -> None:
    assert_same(run("processes", "--devices", "2", "--accumulate", "2"), plain)


def test_a_resumed_run_goes_on_as_if_nothing_had_happened(
    run: Run, plain: list[dict[str, float]], folder: Path
) -> None:
    resumed = run("resumed", "--resume", str(folder / "plain/ranked/step=000002.ckpt"))
    assert_same(resumed, [row for row in plain if row["step"] >= 2])
    with (folder / "resumed/ranked/ranking.csv").open() as file:
        assert {int(row["step"]): row["kept"] for row in csv.DictReader(file)} == {2: "0", 4: "1"}
