from __future__ import annotations

from pathlib import Path

import pytest

from lightning_r1v3.plan import main

REPOSITORY = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr("sys.argv", ["plan"])


def said(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    main(["-c", "configs/base.yaml", *options])
    return capsys.readouterr().out


def test_the_plan_of_the_38b_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "-c", "configs/r1v3_38b/grpo.yaml", "--gpus", "32", "--gpu-memory", "141GB")
    assert "38,388,164,992 parameters; over 32 processes" in out
    for expected in ("weights           4.8 GB", "optimizer         9.6 GB", "sync of all weights: 76.8 GB", "it fits"):
        assert expected in out


def test_a_plan_that_does_not_fit_says_what_to_change(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "-c", "configs/r1v3_38b/sft.yaml", "--gpus", "32", "--gpu-memory", "48GB")
    assert "it does not fit" in out
    assert "lower max_tokens_per_microbatch to about" in out
    out = said(capsys, "-c", "configs/r1v3_38b/sft.yaml", "--gpus", "8", "--gpu-memory", "48GB")
    assert "take more GPUs" in out


def test_adapters_shrink_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("-c", "configs/sft.yaml", "-c", "configs/overlays/qlora.yaml", "--gpus=1", "--gpu-memory=24GB")
    assert "of    1,717,536 parameters train" in said(capsys, *options)
