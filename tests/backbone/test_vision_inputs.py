from __future__ import annotations

import torch

from lightning_r1v3.backbone.vision_inputs import join_vision


def test_no_pictures_no_inputs() -> None:
    assert join_vision([]) == {}


def test_inputs_are_joined_along_their_first_axis() -> None:
    first = {"pixel_values": torch.ones(4, 6), "image_grid_thw": torch.tensor([[1, 2, 2]])}
    second = {"pixel_values": torch.zeros(8, 6), "image_grid_thw": torch.tensor([[1, 2, 4]])}
    joined = join_vision([first, second])
    assert joined["pixel_values"].shape == (12, 6)
    assert joined["image_grid_thw"].tolist() == [[1, 2, 2], [1, 2, 4]]


def test_pictures_of_fewer_tiles_are_filled_up_with_zeros() -> None:
    few, many = torch.ones(1, 2, 3, 4, 4), torch.ones(2, 3, 3, 4, 4)
    pixels = join_vision([{"pixel_values": few}, {"pixel_values": many}])["pixel_values"]
    assert pixels.shape == (3, 3, 3, 4, 4)
    assert pixels[0, :2].eq(1).all()
    assert pixels[0, 2].eq(0).all()
    assert pixels[1:].eq(1).all()
