"""A real HTTP judge on 127.0.0.1 that accepts every answer that names a quintet, and misbehaves on demand."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Behaviour:
    """What the server does next."""

    status: int = 200
    failures: int = 0
    delay_s: float = 0.0
    garbage: bool = False
    reply: str | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    concurrent: int = 0
    most_concurrent: int = 0


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        behaviour = self.server.behaviour
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            behaviour.requests.append(body)
            behaviour.headers.append(dict(self.headers))
            behaviour.paths.append(self.path)
            behaviour.concurrent += 1
            behaviour.most_concurrent = max(behaviour.most_concurrent, behaviour.concurrent)
            failing = behaviour.failures > 0
            behaviour.failures -= failing
        time.sleep(behaviour.delay_s)
        candidate = body["messages"][-1]["content"].rpartition("Candidate answer: ")[2]
        reply = behaviour.reply or ("CORRECT" if "quintet" in candidate else "INCORRECT")
        message = {"choices": [{"message": {"role": "assistant", "content": reply}}]}
        payload = b"<html>" if behaviour.garbage else json.dumps(message).encode()
        with self.server.lock:
            behaviour.concurrent -= 1
        try:
            self.send_response(500 if failing else behaviour.status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)
        except OSError:
            pass  # the client gave up waiting

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it)
        pass


class JudgeServer(ThreadingHTTPServer):
    """The server; `behaviour` may be changed between calls."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = Behaviour()
        self.lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self) -> JudgeServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
