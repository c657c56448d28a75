from __future__ import annotations

import pytest

from lightning_r1v3.data.placeholders import count_placeholders, place_images


def test_without_placeholder_the_images_come_before_the_text() -> None:
    assert place_images("How many?", 2) == ("<image>\n<image>\nHow many?", [0, 1])


def test_a_placeholder_stays_in_place() -> None:
    assert place_images("In <image> how many?", 1) == ("In <image> how many?", [0])


@pytest.mark.parametrize("placeholder", ["<image>", "<image1>", "<image_1>", "<image 1>", "<image7>"])
def test_any_form_stands_for_the_only_image(placeholder: str) -> None:
    assert place_images(f"{placeholder}\nQ", 1) == ("<image>\nQ", [0])


def test_several_placeholders_for_one_image_collapse_to_the_first() -> None:
    question = "Pipo looks like this:\n<image1>\nWhich does he see?\n<image2>"
    assert place_images(question, 1)[0] == "Pipo looks like this:\n<image>\nWhich does he see?"


def test_collapsing_inside_a_line_leaves_no_double_space() -> None:
    assert place_images("<image1> is to <image2> as what?", 1)[0] == "<image> is to as what?"


def test_numbered_placeholders_say_which_image_stands_where() -> None:
    assert place_images("<image2> then <image1>", 2) == ("<image> then <image>", [1, 0])


@pytest.mark.parametrize(
    ("question", "num_images"), [("<image> Q", 2), ("<image> <image> <image> Q", 2), ("<image> Q", 0)]
)
def test_a_mismatch_is_a_fault(question: str, num_images: int) -> None:
    with pytest.raises(ValueError, match=r"missing|extra"):
        place_images(question, num_images)


@pytest.mark.parametrize("question", ["<image1> <image1>", "<image1> <image3>", "<image1> <image>"])
def test_numbers_must_name_each_image_once(question: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        place_images(question, 2)


def test_other_tags_are_no_placeholders() -> None:
    assert count_placeholders("<images> <img> < image> <imagea>") == 0
