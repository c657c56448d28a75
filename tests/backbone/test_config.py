from __future__ import annotations

import pytest

from lightning_r1v3.backbone import BackboneConfig


@pytest.mark.parametrize("trainable", [["projector"], [], ["connector", "connector"]])
def test_groups_are_known_and_named_once(trainable: list[str]) -> None:
    with pytest.raises(
        ValueError, match=r"trainable: expected some of \['vision_tower', 'connector', 'language_model'\]"
    ):
        BackboneConfig("somewhere", trainable=trainable)


def test_everything_trains_by_default() -> None:
    assert BackboneConfig("somewhere").trainable is None
