from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def imported_roots(package: Path) -> set[str]:
    nodes = [node for path in package.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in plain | froms}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(LINT_IMPORTS), "--no-cache", "--no-logo"]
    # The linted packages are the folder's own, not those of the environment.
    path = f"{folder}:{folder / 'callbacks'}"
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": path}, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(REPOSITORY / "setup.cfg", tmp_path)
    shutil.copytree(REPOSITORY / "lightning_r1v3", tmp_path / "lightning_r1v3")
    shutil.copytree(REPOSITORY / "callbacks", tmp_path / "callbacks")
    return tmp_path


def plant(file: Path, statement: str) -> None:
    file.write_text(f"{file.read_text()}\n{statement}\n")


def test_objectives_import_torch_and_typing_only() -> None:
    allowed = {"__future__", "collections", "dataclasses", "math", "torch", "typing", "lightning_r1v3"}
    assert imported_roots(REPOSITORY / "lightning_r1v3" / "objectives") <= allowed


def test_callbacks_import_torch_lightning_and_the_standard_library_only() -> None:
    allowed = {"torch", "lightning", "r1v3_callbacks", *sys.stdlib_module_names}
    assert imported_roots(REPOSITORY / "callbacks") <= allowed


def test_imports_go_one_way(copy: Path) -> None:
    lint = lint_imports(copy)
    assert lint.returncode == 0, lint.stdout


@pytest.mark.parametrize(
    ("file", "statement", "contract"),
    [
        ("lightning_r1v3/types.py", "import lightning_r1v3.data", "Imports go one way"),
        ("lightning_r1v3/objectives/__init__.py", "import lightning_r1v3.data", "Imports go one way"),
        ("callbacks/r1v3_callbacks/__init__.py", "import lightning_r1v3", "know nothing of each other"),
        ("lightning_r1v3/types.py", "import r1v3_callbacks", "know nothing of each other"),
    ],
)
def test_a_forbidden_import_is_caught(copy: Path, file: str, statement: str, contract: str) -> None:
    plant(copy / file, statement)
    lint = lint_imports(copy)
    assert lint.returncode == 1, lint.stdout + lint.stderr
    assert any(contract in line and "BROKEN" in line for line in lint.stdout.splitlines())


def test_a_module_without_a_layer_is_caught(copy: Path) -> None:
    (copy / "lightning_r1v3" / "newcomer.py").touch()
    lint = lint_imports(copy)
    assert lint.returncode == 1
    assert "newcomer" in lint.stdout + lint.stderr
