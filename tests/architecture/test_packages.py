from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCES = {"lightning_r1v3", "callbacks", "setup.cfg", "pyproject.toml", "LICENSE", "README.md"}
ROOTS = {"lightning_r1v3": REPOSITORY, "r1v3_callbacks": REPOSITORY / "callbacks"}


def packages_on_disk() -> set[str]:
    inits = ((base, init) for name, base in ROOTS.items() for init in (base / name).rglob("__init__.py"))
    return {".".join(init.parent.relative_to(base).parts) for base, init in inits}


def test_setup_cfg_lists_the_packages_on_disk() -> None:
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    assert set(config["options"]["packages"].split()) == packages_on_disk()


def built_wheel(folder: Path) -> Path:
    # From a copy: a build leaves folders behind, which would end up in the next wheel.
    source = folder / "source"
    shutil.copytree(
        REPOSITORY, source, ignore=lambda parent, names: set(names) - SOURCES if parent == str(REPOSITORY) else []
    )
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.mark.integration
def test_both_packages_import_from_the_wheel(tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(built_wheel(tmp_path)) as wheel:
        wheel.extractall(site)
    # -I keeps the working directory and PYTHONPATH out; the dependencies are those of this environment.
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import lightning_r1v3, r1v3_callbacks, torchvision;"
        "print(lightning_r1v3.__file__); print(r1v3_callbacks.__file__)"
    )
    run = [sys.executable, "-I", "-c", script, str(site)]
    printed = subprocess.run(run, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert [Path(line).parent for line in printed.split()] == [site / "lightning_r1v3", site / "r1v3_callbacks"]
    assert (site / "lightning_r1v3" / "child_site" / "sitecustomize.py").exists()
    assert all((site / name / "py.typed").exists() for name in ROOTS)
