from __future__ import annotations

import pytest

from lightning_r1v3.rollout.fleet import visible_device


@pytest.mark.parametrize(("visible", "expected"), [(None, "1"), ("4,6", "6"), ("GPU-a,GPU-b", "GPU-b")])
def test_a_server_beside_the_trainer_sees_its_gpu(
    visible: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_device(1) == {"CUDA_VISIBLE_DEVICES": expected}
