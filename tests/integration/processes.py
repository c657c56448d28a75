"""The command line in several processes of one launch, as torchrun starts them, without its start-up time."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

PATIENCE_S, GRACE_S = 600.0, 90.0
"""For a launch, whose runs take seconds; and for the other processes once one has left with an error."""
PRELOADED = ["lightning_r1v3.cli", "lightning_r1v3.modules", "tensorboard", "torch.distributed.fsdp"]


def launch(workplace: Path, options: list[str], *, processes: int, nodes: int = 1) -> list[int]:
    """Runs the command line in `processes` processes over `nodes` pretended nodes; returns their exit codes.

    What they say goes to `RANK.log` in a folder of the launch, the last of which is `workplace/launches/latest`. Once
    one process has failed the others, which wait for it, are killed.
    """
    logs = workplace / "launches"
    logs.mkdir(exist_ok=True)
    folder = logs / str(len(list(logs.iterdir())))
    folder.mkdir()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    started = [
        context.Process(target=_run, args=(workplace, folder, options, rank, processes, nodes))
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    _await(started)
    return [process.exitcode or 0 for process in started]


def said(workplace: Path) -> str:
    """What the processes of the last launch said."""
    folders = sorted((workplace / "launches").iterdir(), key=lambda folder: int(folder.name))
    return "\n".join(log.read_text() for log in sorted(folders[-1].glob("*.log")))


def _await(processes: list[BaseProcess]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(process.is_alive() for process in processes):
        if any(process.exitcode for process in processes) or time.monotonic() > deadline:
            # One that was told to stop, or failed, leaves the others waiting in a collective.
            for process in processes:
                process.join(GRACE_S)
                process.kill()
        time.sleep(0.05)


def _run(workplace: Path, logs: Path, options: list[str], rank: int, world_size: int, nodes: int) -> None:
    sys.stdout = sys.stderr = (logs / f"{rank}.log").open("w", buffering=1)
    local = world_size // nodes
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank % local),
        "LOCAL_WORLD_SIZE": str(local),
        "GROUP_RANK": str(rank // local),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "0",
        "HF_HUB_OFFLINE": "1",
    }
    os.chdir(workplace)
    sys.path[:0] = [str(workplace), str(Path(__file__).parent)]
    sys.argv = ["lightning-r1v3"]
    import torch  # noqa: PLC0415 (after the environment is set)

    from lightning_r1v3.cli import main  # noqa: PLC0415

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{logs}/rendezvous",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=PATIENCE_S),
    )
    try:
        main([*options, f"--trainer.devices={local}", f"--trainer.num_nodes={nodes}"])
    except SystemExit as leaving:
        print(leaving.code)  # noqa: T201
        raise
    except BaseException:
        traceback.print_exc()
        raise
