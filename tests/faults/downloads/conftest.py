"""A local HTTP server that serves one file, well or in one of the ways in which servers fail, and data sets from it."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from bench.data import fetch

CONTENT = random.Random(0).randbytes(60_000)


class Handler(BaseHTTPRequestHandler):
    """Answers by the behaviour that the first part of the path names."""

    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            BEHAVIOURS[self.path.split("/")[1]](self, self.server.content)

    def send(self, content: bytes, *, length: int | None = None) -> None:
        """An answer; `length` is what the header promises."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def status(self, code: int) -> None:
        self.send_response(code)
        self.send_header("Content-Length", "0")
        if code == 302:
            self.send_header("Location", self.path)
        self.end_headers()


def _drops(handler: Handler, content: bytes) -> None:
    handler.send(content[:7_000], length=len(content))
    handler.connection.shutdown(socket.SHUT_RDWR)


def _silent(handler: Handler, content: bytes) -> None:
    handler.send(content[:10], length=len(content))
    time.sleep(1.5)


def _once(handler: Handler, content: bytes) -> None:
    if handler.server.requests.count(handler.path) == 1:
        handler.status(500)
    else:
        handler.send(content)


BEHAVIOURS: dict[str, Callable[[Handler, bytes], None]] = {
    "good": Handler.send,
    "500-once": _once,
    "drops": _drops,
    "truncated": lambda handler, content: handler.send(content[:-1000]),
    "altered": lambda handler, content: handler.send(content[:100] + bytes([content[100] ^ 1]) + content[101:]),
    "404": lambda handler, content: handler.status(404),
    "500": lambda handler, content: handler.status(500),
    "loop": lambda handler, content: handler.status(302),
    "silent": _silent,
}


class Server(ThreadingHTTPServer):
    """Serves `content` on a free port and keeps the paths that were asked for."""

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.requests: list[str] = []

    def url(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{behaviour}/file.bin"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave are part of the tests."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server. Clients wait for it for less than a second, and not at all between two attempts."""
    monkeypatch.setattr(fetch, "TIMEOUT", 0.5)
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda seconds: None))
    running = Server(CONTENT)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def catalogue(tmp_path: Path, server: Server) -> Callable[..., Path]:
    """``catalogue("drops", "good")``: a catalogue whose data set ``one`` has these addresses, in this order."""

    def write(*behaviours: str, content: bytes = CONTENT, unpack: str | None = None, files: dict | None = None) -> Path:
        server.content = content
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        name = "file.bin.gz" if unpack == "gzip" else "file.bin"
        download = {"name": name, "bytes": len(content), "checksum": checksum, "urls": [*map(server.url, behaviours)]}
        entry = {
            "title": "One file",
            "home": "http://example.invalid/",
            "files": files or {"file.bin": checksum},
            "downloads": [download | ({"unpack": unpack} if unpack else {})],
        }
        path = tmp_path / f"catalogue-{len(list(tmp_path.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump({"one": entry}))
        return path

    return write
