"""The command line in several processes of one launch, as torchrun starts them, without its start-up time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

PATIENCE_S, GRACE_S = 600.0, 90.0
"""For a launch, whose runs take seconds; and for the other processes once one has left with an error."""
POLL_S = 0.001
"""Between two looks of a kill for its file: a checkpoint is written in some tens of milliseconds."""
PRELOADED = ["lightning_r1v3.cli", "lightning_r1v3.modules", "tensorboard", "torch.distributed.fsdp"]


@dataclass(frozen=True)
class Kill:
    """SIGKILL to one process of a launch, `delay_s` after files have appeared, one after the other.

    The other processes get `grace_s` until they are killed too, as torchrun does.
    """

    rank: int
    patterns: tuple[str, ...]
    delay_s: float
    grace_s: float = 1.0

    def strike(self, workplace: Path, pid: int, over: threading.Event) -> None:
        """Waits for the moment; once the launch is over, it never comes."""
        for pattern in self.patterns:
            while not any(workplace.glob(pattern)):
                if over.wait(POLL_S):
                    return
        if not over.wait(self.delay_s):
            os.kill(pid, signal.SIGKILL)


def launch(
    workplace: Path, options: list[str], *, processes: int, nodes: int = 1, kill: Kill | None = None
) -> list[int]:
    """Runs the command line in `processes` processes over `nodes` pretended nodes; returns their exit codes.

    What they say goes to `RANK.log` in a folder of the launch: see `said`. Once one process has failed the others,
    which wait for it, are killed.
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
    over = threading.Event()
    if kill is not None:
        threading.Thread(target=kill.strike, args=(workplace, started[kill.rank].pid, over), daemon=True).start()
    _await(started, GRACE_S if kill is None else kill.grace_s)
    over.set()
    return [process.exitcode or 0 for process in started]


def said(workplace: Path) -> str:
    """What the processes of the last launch said."""
    folders = sorted((workplace / "launches").iterdir(), key=lambda folder: int(folder.name))
    return "\n".join(log.read_text() for log in sorted(folders[-1].glob("*.log")))


def _await(processes: list[BaseProcess], grace_s: float) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(process.is_alive() for process in processes):
        if any(process.exitcode for process in processes) or time.monotonic() > deadline:
            # One that was told to stop, or failed, leaves the others waiting in a collective.
            for process in processes:
                process.join(grace_s)
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
