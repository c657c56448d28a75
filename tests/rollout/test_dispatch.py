from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lightning_r1v3.rollout.dispatch import send_all
from lightning_r1v3.rollout.errors import ServerTimeoutError
from lightning_r1v3.rollout.server_client import ServerClient
from lightning_r1v3.rollout.server_settings import Patience

TIMEOUT_S = 300.0
PATIENCE = Patience(request_s=TIMEOUT_S, probe_s=0.2)
SLOW_S = 5 * PATIENCE.probe_s


class Server(ThreadingHTTPServer):
    """Answers every prompt with its own address, late or never."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.delay_s = 0.0
        self.hangs = threading.Event()
        self.ended = threading.Event()
        self.num_requests = 0


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer(b'{"weight_version": "v"}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.num_requests += 1
        time.sleep(self.server.delay_s)
        self._answer(f'"{self.server.url}"'.encode())

    def _answer(self, content: bytes) -> None:
        if self.server.hangs.is_set():
            self.server.ended.wait()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None: ...

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # the caller hung up
            self.close_connection = True


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    running = [Server(), Server()]
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in running]
    for thread in threads:
        thread.start()
    yield running
    for server in running:
        server.ended.set()
        server.shutdown()
        server.server_close()
    for thread in threads:
        thread.join()


def send(servers: list[Server], num_requests: int) -> tuple[dict[int, Any], dict[str, Any]]:
    clients = [ServerClient(server.url, "token", timeout_s=TIMEOUT_S) for server in servers]
    requests: dict[int, dict[str, Any]] = {number: {} for number in range(num_requests)}
    return send_all(clients, requests, lambda _, reply: reply, patience=PATIENCE)


def test_servers_take_turns(servers: list[Server]) -> None:
    replies, errors = send(servers, 5)
    assert not errors
    assert replies == {number: servers[number % 2].url for number in range(5)}


def test_a_server_that_hangs_is_found_out_long_before_the_deadline(servers: list[Server]) -> None:
    healthy, hanging = servers
    hanging.hangs.set()
    replies, errors = send(servers, 6)
    assert replies == dict.fromkeys((0, 2, 4), healthy.url)
    assert list(errors) == [hanging.url]
    assert not isinstance(errors[hanging.url], ServerTimeoutError)


def test_a_slow_server_that_shows_signs_of_life_is_waited_for(servers: list[Server]) -> None:
    servers[1].delay_s = SLOW_S
    replies, errors = send(servers, 4)
    assert not errors
    assert len(replies) == 4
    assert servers[1].num_requests == 2
