from __future__ import annotations

import pytest

from r1v3_callbacks.claims import ClaimFinder, count_claims


@pytest.mark.parametrize(
    "text",
    [
        "I can't see the image, so",
        "Since I can\u2019t actually see the picture",
        "I cannot view this diagram",
        "we are unable to see what is in the figure",
        "I'm not able to see the attached image",
        "I don't have access to the image",
        "Without seeing\nthe graph",
        "the image is not provided",
        "the figure isn't shown here",
        "No image was provided",
        "我看不到图片",
        "由于无法看到这张图",
        "题目没有提供图像",
        "图片没有显示",
    ],
)
def test_claims(text: str) -> None:
    assert ClaimFinder().claims(text)


@pytest.mark.parametrize(
    "text",
    [
        "I can see the image",
        "the image is provided",
        "we cannot see the answer directly",
        "The figure shows no circle",
        "it is not in the picture",
        "我看到图片里有三个圆",
        "看图可知",
    ],
)
def test_no_claims(text: str) -> None:
    assert not ClaimFinder().claims(text)


def test_counts_are_split_by_reasoning_and_answer() -> None:
    texts = [
        "I can't see the image. It is 4</think>4",
        "Four</think>I cannot see the image",
        "Three</think>3",
        "no image is given",
    ]
    counts = count_claims(ClaimFinder(), texts, [1.0, 0.0, 1.0, 0.0], reasoning_end="</think>")
    assert counts.shares() == {"reasoning": 0.5, "answer": 0.25, "any": 0.75}
    assert counts.accuracies() == {"accuracy_claiming": 1 / 3, "accuracy_others": 1.0}


def test_a_bad_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="no regular expression"):
        ClaimFinder(["("])
