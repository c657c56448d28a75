from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
FILES = [
    path.relative_to(REPOSITORY)
    for folder in ("lightning_r1v3", "callbacks", "data_shards")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
]


def long_functions(source: str) -> list[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, functions)]
    return [node.name for node in nodes if node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_are_short(path: Path) -> None:
    source = (REPOSITORY / path).read_text()
    assert len(source.splitlines()) <= MAX_FILE_LINES
    assert long_functions(source) == []
