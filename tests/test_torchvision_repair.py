from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lightning_r1v3.torchvision_repair import child_environment, declare_missing_operators

SPAWNING_SCRIPT = """
import multiprocessing
import sys

import lightning_r1v3


def import_torchvision():
    import torchvision


if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=import_torchvision)
    child.start()
    child.join()
    sys.exit(child.exitcode)
"""


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_torchvision_imports_after_the_package() -> None:
    child = run_python("-c", "import lightning_r1v3, torchvision.transforms.v2")
    assert child.returncode == 0, child.stderr


def test_the_package_does_not_import_torchvision() -> None:
    child = run_python("-c", "import lightning_r1v3, sys; sys.exit('torchvision' in sys.modules)")
    assert child.returncode == 0


def test_a_second_call_changes_nothing() -> None:
    declare_missing_operators()
    declare_missing_operators()


def test_absent_torchvision_is_no_error() -> None:
    hide = "import sys; sys.modules['torchvision'] = None; import importlib.util as u; u.find_spec = lambda name: None"
    child = run_python("-c", f"{hide}; import lightning_r1v3")
    assert child.returncode == 0, child.stderr


def test_a_spawned_child_of_a_script_is_repaired(tmp_path: Path) -> None:
    script = tmp_path / "spawns.py"
    script.write_text(SPAWNING_SCRIPT)
    child = run_python(str(script))
    assert child.returncode == 0, child.stderr


def test_child_environment_repairs_a_process_that_knows_nothing_of_the_package() -> None:
    child = run_python("-c", "import torchvision", **child_environment())
    assert child.returncode == 0, child.stderr


def test_child_environment_keeps_the_inherited_path(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/one:/two")
    assert child_environment()["PYTHONPATH"].endswith("child_site:/one:/two")
