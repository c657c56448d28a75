from __future__ import annotations

import time

import pytest

from lightning_r1v3.rewards.boxed import boxed_contents


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        (r"\boxed{1} and \boxed{2}", ["1", "2"]),
        (r"\boxed{\frac{1}{2}}", [r"\frac{1}{2}"]),
        (r"\boxed{a\}b}", [r"a\}b"]),
        (r"\boxed{x=\boxed{5}}", ["5"]),
        (r"{\boxed{5}}", ["5"]),
        (r"}}\boxed{5}", ["5"]),
        (r"\boxed{5", []),
        (r"\boxed{ }", []),
        (r"\boxed{?}", []),
        ("5", []),
    ],
)
def test_contents(text: str, contents: list[str]) -> None:
    assert boxed_contents(text) == contents


def test_nesting_costs_linear_time() -> None:
    started = time.perf_counter()
    assert boxed_contents(r"\boxed{" * 100_000 + "5" + "}" * 100_000) == ["5"]
    assert time.perf_counter() - started < 2
