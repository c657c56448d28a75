from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import Namespace

from lightning_r1v3.cli import R1V3CLI

CONFIGS = Path(__file__).parents[2] / "configs"
BASE, BACKBONES, OVERLAYS = CONFIGS / "base.yaml", CONFIGS / "backbone", CONFIGS / "overlays"
STAGES = sorted(set(CONFIGS.glob("*.yaml")) - {BASE}) + sorted(CONFIGS.glob("r1v3_38b/*.yaml"))
ALONE = [[stage] for stage in STAGES]
WITH_OVERLAY = [[stage, overlay] for stage in STAGES for overlay in sorted(OVERLAYS.glob("*.yaml"))]

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def name_of(files: list[Path]) -> str:
    return "+".join(str(file.relative_to(CONFIGS)) for file in files)


class Parser(R1V3CLI):
    """Parses, and builds model, data and callbacks, but no trainer."""

    def __init__(self, files: list[Path], *, build: bool) -> None:
        self.build = build
        super().__init__(["fit", *(option for file in files for option in ("-c", str(file)))])

    def instantiate_classes(self) -> None:
        if self.build:
            self.built = self.parser.instantiate_classes(self.config)

    def _run_subcommand(self, subcommand: str) -> None: ...


@pytest.fixture(autouse=True)
def in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    monkeypatch.setattr("sys.argv", ["lightning-r1v3"])


def parsed(files: list[Path]) -> Namespace:
    return Parser([BASE, *files], build=False).config["fit"]


def fits(files: list[Path]) -> bool:
    """An overlay that is for some stages says so in its first line: `# For: grpo.yaml, r1v3_38b/grpo.yaml`."""
    stage, *overlays = files
    lines = (overlay.read_text().splitlines()[0] for overlay in overlays)
    wanted = [line.removeprefix("# For: ").split(", ") for line in lines if line.startswith("# For: ")]
    return all(str(stage.relative_to(CONFIGS)) in stages for stages in wanted)


def paths_in(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from paths_in(inner, str(name))
    if isinstance(value, str) and any(word in key for word in ("dir", "root", "out")):
        yield key, value


@pytest.mark.parametrize("files", ALONE + [files for files in WITH_OVERLAY if fits(files)], ids=name_of)
def test_it_parses_and_writes_below_runs_only(files: list[Path]) -> None:
    config = parsed(files)
    assert config.name
    outside = [
        (key, path) for key, path in paths_in(config.trainer.as_dict()) if not path.startswith("runs/") and "/" in path
    ]
    assert outside == []


@pytest.mark.parametrize("files", ALONE + [files for files in WITH_OVERLAY if fits(files)], ids=name_of)
def test_what_it_names_can_be_built(files: list[Path]) -> None:
    config = parsed(files)
    needed = [config.model.init_args.backbone.path, *shards_of(config)]
    if missing := [path for path in needed if not list(Path().glob(path))]:
        pytest.skip(f"not here: {', '.join(missing)}")
    built = Parser([BASE, *files], build=True).built.fit
    assert built.model.backbone_config.path == config.model.init_args.backbone.path


def shards_of(config: Namespace) -> list[str]:
    sources = [*config.data.init_args.train, *(config.data.init_args.val or [])]
    return [
        shards
        for source in sources
        for shards in ([source.shards] if isinstance(source.shards, str) else source.shards)
    ]


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: name_of([file]))
def test_it_says_what_it_is_for(file: Path) -> None:
    assert file.read_text().startswith("# ") or file.parent == BACKBONES
    assert isinstance(yaml.safe_load(file.read_text()), dict)


def test_overlays_add_their_callbacks() -> None:
    # A plain list would keep the init_args of the stage's own callbacks by position.
    trainers = [yaml.safe_load(file.read_text()).get("trainer", {}) for file in OVERLAYS.glob("*.yaml")]
    assert not any("callbacks" in trainer for trainer in trainers)
