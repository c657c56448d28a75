from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture
def grader(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    module = benchmark_module("grader_agreement")
    if not module.FOLDER.is_dir():
        pytest.skip(f"the public graders' verdicts are not at {module.FOLDER}")
    return module


def test_agreement_with_the_public_graders(grader: ModuleType) -> None:
    cases = [case for case in grader.load_cases() if case.get("cross_check") == "agree"]
    agreeing = sum(grader.our_verdict(case) == case["verdict"] for case in cases)
    assert agreeing / len(cases) >= 0.995


def test_only_empty_reasoning_is_formatted_otherwise(grader: ModuleType) -> None:
    cases = [case for case in grader.load_cases() if case["kind"] == "format"]
    differing = [case["response"] for case in cases if grader.our_verdict(case) != case["verdict"]]
    assert differing == ["<think></think>\nThis is my answer."]
