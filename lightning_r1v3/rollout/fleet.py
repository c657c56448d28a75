"""The rollout servers of one process: started, watched, started anew."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from pathlib import Path

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.rollout.errors import RolloutError, ServerError
from lightning_r1v3.rollout.server_client import ServerClient
from lightning_r1v3.rollout.server_process import ServerProcess
from lightning_r1v3.rollout.server_settings import Patience, ServerSettings

log = logging.getLogger(__name__)

_POLL_S = 0.5


class Fleet:
    """Servers that share one model and one token."""

    def __init__(self, settings: ServerSettings, patience: Patience, *, transfer: str) -> None:
        """Stores the settings; `ensure` starts what is missing.

        Args:
            settings: Which servers.
            patience: How long to wait for them.
            transfer: How their weights arrive.
        """
        self._settings = settings
        self._patience = patience
        self._transfer = transfer
        self.token = settings.token()
        self._processes: dict[int, ServerProcess] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.clients: list[ServerClient | None] = [None] * settings.count
        if settings.urls:
            self.clients = [self._client(url) for url in settings.urls]

    @property
    def running(self) -> list[ServerClient]:
        """The clients of all servers, once `ensure` returned."""
        assert all(self.clients), "ensure comes first"
        return [client for client in self.clients if client is not None]

    def ensure(self, backbone: Backbone) -> bool:
        """Starts the servers that do not run, and waits for those given by URL; returns whether any is new.

        Args:
            backbone: The model that they serve.

        Raises:
            RolloutError: One does not come up.
        """
        deadline = time.monotonic() + self._patience.start_s
        missing = [i for i in range(len(self.clients)) if not self._settings.urls and not self._runs(i)]
        for index in missing:
            self.kill(index)
            self._processes[index] = self._start(backbone)
        for index in missing:
            self.clients[index] = self._client(self._processes[index].wait_for_address(deadline))
        for index, client in enumerate(self.running):
            self._wait_for(client, self._processes.get(index), deadline)
        return bool(missing)

    def kill_silent(self) -> None:
        """Ends the servers that we started and that give no sign of life."""
        for index, client in enumerate(self.clients):
            if client is not None and self._runs(index) and not self._answers(client):
                log.warning("the rollout server %s gives no sign of life and is started anew", client.url)
                self.kill(index)

    def kill(self, index: int) -> None:
        """Ends a server that we started; one given by URL is left alone."""
        if process := self._processes.pop(index, None):
            process.kill()
            self.clients[index] = None

    def pids(self) -> list[int]:
        """Returns the process ids of the servers that we started."""
        return [process.process.pid for process in self._processes.values()]

    def close(self) -> None:
        """Ends what we started."""
        for index in list(self._processes):
            self.kill(index)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _runs(self, index: int) -> bool:
        return index in self._processes and self._processes[index].running

    def _answers(self, client: ServerClient) -> bool:
        try:
            client.weight_version(timeout_s=self._patience.probe_s)
        except ServerError:
            return False
        return True

    def _client(self, url: str) -> ServerClient:
        return ServerClient(url, self.token, timeout_s=self._patience.sync_s)

    def _start(self, backbone: Backbone) -> ServerProcess:
        dtype = str(backbone.compute_dtype).removeprefix("torch.")
        arguments = self._settings.arguments(self._model_folder(backbone), dtype=dtype, transfer=self._transfer)
        log.info("starting a rollout server: %s", " ".join(arguments))
        own_device = visible_device(backbone.device.index or 0) if self._transfer == "ipc" else {}
        environment = own_device | self._settings.environment
        return ServerProcess(arguments, token=self.token, environment=environment)

    def _model_folder(self, backbone: Backbone) -> str:
        """Folder with config and processor; the weights arrive by broadcast."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="r1v3_model_")
            folder = Path(self._folder.name)
            backbone.model.config.architectures = [type(backbone.model).__name__]
            backbone.model.config.save_pretrained(folder)
            backbone.processor.save_pretrained(folder)
        return self._folder.name

    def _wait_for(self, client: ServerClient, process: ServerProcess | None, deadline: float) -> None:
        """Returns once the engine behind a server answers."""
        while True:
            try:
                client.weight_version(timeout_s=self._patience.probe_s)
            except ServerError as error:
                if process is not None:
                    process.check(deadline)
                elif time.monotonic() > deadline:
                    raise RolloutError(f"no rollout server answers there: {error}") from error
                time.sleep(_POLL_S)
            else:
                return


def visible_device(index: int) -> dict[str, str]:
    """Returns the environment in which a process sees only one of the GPUs that this one sees.

    Args:
        index: Of the GPU, as this process counts them.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[index] if visible else str(index)}
