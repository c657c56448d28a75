"""A door in front of a server, which lets through what it likes."""

from __future__ import annotations

import threading
import time
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Gate(ThreadingHTTPServer):
    """Stands in front of a real server, and lets requests to one path fail or wait."""

    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _GateHandler)
        self.target = url
        self.path = "/inference/v1/generate"
        self.failures_left = 0
        self.stalls_left = 0
        self.stall_s = 0.0
        self.num_requests = 0
        self.lock = threading.Lock()

    def fails(self) -> bool:
        with self.lock:
            self.num_requests += 1
            self.failures_left -= 1
            return self.failures_left >= 0

    def stall(self) -> None:
        """Keeps the caller waiting if it is one of the next few."""
        with self.lock:
            self.stalls_left -= 1
            waits = self.stalls_left >= 0
        if waits:
            time.sleep(self.stall_s)


class _GateHandler(BaseHTTPRequestHandler):
    server: Gate

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
        if self.path == self.server.path:
            self.server.stall()
            if self.server.fails():
                self._answer(500, b"out of order")
                return
        headers = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
        request = urllib.request.Request(self.server.target + self.path, body, headers, method=self.command)
        with urllib.request.urlopen(request, timeout=240) as response:
            status, content = response.status, response.read()
        with suppress(OSError):  # the caller may have hung up
            self._answer(status, content)

    do_GET = do_POST = _pass_on  # noqa: N815  (the names that the standard library calls)

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None: ...
