from __future__ import annotations

import json
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from processes import Kill, launch, said
from sharded_runs import content, write_configs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

NUM_EPOCHS, LAST_STEP, NUM_SAMPLES = 2, 10, 17
# Every step writes a checkpoint, removes the one before, and replaces `last.ckpt`.
CHECKPOINTS = {
    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
    "init_args": {"every_n_train_steps": 1, "save_top_k": 1, "save_last": True, "filename": "{step}"},
}
LEFT_BY_A_SAVE = (".partial", ".replaced", ".removed")

# Where a kill lands: the files that appear before it, one after the other, and the longest time after them.
AIMS = [
    (("step={step}.ckpt.partial",), 0.05),  # writing a checkpoint
    (("step={step}.ckpt",), 0.3),  # anywhere: removing the one before, writing `last.ckpt`, between saves
    (("step={step}.ckpt", "last.ckpt.partial"), 0.1),  # writing one that is there already
    (("step={step}.ckpt", "last.ckpt.re*"), 0.01),  # replacing it
    ((), 3.0),  # starting, loading
]

Notes = dict[int, list[tuple[int, str]]]
"""Epoch and id of the samples that were trained, by step."""
Fit = Callable[..., list[int]]


@pytest.fixture(scope="module")
def fit(workplace: Path) -> Fit:
    write_configs(workplace)
    steps = {"max_steps": -1, "max_epochs": NUM_EPOCHS, "callbacks": [CHECKPOINTS]}
    (workplace / "every_step.yaml").write_text(yaml.safe_dump({"trainer": steps}))

    def run(name: str, notes: str, *options: str, kill: Kill | None = None) -> list[int]:
        witness = {"class_path": "witness.Witness", "init_args": {"path": notes}}
        files = ("-c", "sft.yaml", "-c", "fsdp.yaml", "-c", "every_step.yaml")
        line = ["fit", *files, f"--name={name}", f"--trainer.callbacks+={json.dumps(witness)}", *options]
        return launch(workplace, line, processes=2, kill=kill)

    return run


@pytest.fixture(scope="module")
def unbroken(fit: Fit, workplace: Path) -> Notes:
    assert fit("whole", "whole") == [0, 0], said(workplace)
    notes = trained(workplace, "whole")
    seen = Counter(sample for step in notes.values() for sample in step)
    assert set(seen.values()) == {1}
    assert len(seen) == NUM_EPOCHS * NUM_SAMPLES
    return notes


def trained(workplace: Path, notes: str) -> Notes:
    """What the two processes of a launch trained."""
    steps: Notes = {}
    for rank in range(2):
        path = workplace / f"{notes}-{rank}.jsonl"
        for line in map(json.loads, path.read_text().splitlines() if path.exists() else ()):
            steps.setdefault(line["step"], []).extend((line["epoch"], key) for key in line["ids"])
    return steps


def gone_on(history: Notes, saved: int, notes: Notes) -> Notes:
    """What was trained up to a checkpoint, and from there."""
    assert min(notes, default=saved + 1) == saved + 1
    return {step: samples for step, samples in history.items() if step <= saved} | notes


def last_whole(checkpoints: Path) -> int:
    """Step of the last checkpoint that is complete; 0 if there is none."""
    folders = [rest.parent for rest in checkpoints.glob("*.ckpt/rest.pt")]
    whole = [folder for folder in folders if len(list(folder.glob("shard-*-of-00002.safetensors"))) == 2]
    return max((torch.load(folder / "rest.pt", weights_only=True)["global_step"] for folder in whole), default=0)


def cut_off(checkpoints: Path) -> set[tuple[str, float]]:
    """What saves left that were never finished, and when."""
    return {(path.name, path.stat().st_mtime) for path in checkpoints.glob("*") if path.suffix in LEFT_BY_A_SAVE}


# A run is killed `num_kills` times, each time otherwise; the seed says where.
@pytest.mark.parametrize(
    ("seed", "num_kills", "in_background"),
    [
        (0, 3, False),
        pytest.param(1, 5, False, marks=pytest.mark.soak),
        pytest.param(2, 5, False, marks=pytest.mark.soak),
        pytest.param(3, 5, True, marks=pytest.mark.soak),
        pytest.param(4, 5, True, marks=pytest.mark.soak),
    ],
)
def test_a_sharded_run_killed_again_and_again_ends_as_if_nothing_had_happened(
    fit: Fit, unbroken: Notes, workplace: Path, seed: int, num_kills: int, in_background: bool
) -> None:
    moments = random.Random(seed)
    name, options = f"many{seed}", [f"--trainer.strategy.async_checkpoints={str(in_background).lower()}"]
    folder = f"runs/{name}/checkpoints"
    checkpoints = workplace / folder
    history: Notes = {}
    saved = num_cut_off_saves = 0
    for number, (files, longest_s) in enumerate(moments.sample(AIMS[:num_kills], num_kills)):
        notes, before = f"{name}.{number}", cut_off(checkpoints)
        step = min(saved + moments.randint(1, 2), LAST_STEP - 1)
        patterns = tuple(f"{folder}/{file.format(step=step)}" for file in files)
        kill = Kill(moments.randrange(2), patterns, moments.uniform(0, longest_s))
        assert fit(name, notes, *options, kill=kill)[kill.rank] == -signal.SIGKILL, said(workplace)
        history = gone_on(history, saved, trained(workplace, notes))
        num_cut_off_saves += bool(cut_off(checkpoints) - before)
        saved = last_whole(checkpoints)
        options = [*options[:1], *(["--ckpt_path=last"] if saved else [])]
    assert num_cut_off_saves >= 1
    assert fit(name, name, *options) == [0, 0], said(workplace)
    assert gone_on(history, saved, trained(workplace, name)) == unbroken
    for part in ("checkpoints/last.ckpt", "hf"):
        ends = [content(workplace / f"runs/{run}" / part) for run in ("whole", name)]
        torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=0)
