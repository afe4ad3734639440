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

import pytest
import yaml

from bench.data.transfer import Patience

CONTENT = random.Random(0).randbytes(60_000)

Behaviour = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers by the behaviour that the first part of the path names."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))  # type: ignore[attr-defined]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.server.behaviours[self.path.split("/")[1]](self)  # type: ignore[attr-defined]

    @property
    def content(self) -> bytes:
        return self.server.content  # type: ignore[attr-defined]

    def seen(self) -> int:
        """Requests for this path so far, this one included."""
        return sum(path == self.path for path, _ in self.server.requests)  # type: ignore[attr-defined]

    def start(self) -> int:
        asked = self.headers.get("Range")
        return int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0

    def send(self, content: bytes, *, length: int | None = None, ranged: bool = True) -> None:
        """The file from the asked place on; `length` lies about how much will come."""
        start = self.start() if ranged else 0
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(body)

    def drop_after(self, count: int) -> None:
        """Promises the rest of the file, sends `count` bytes of it and cuts the connection."""
        start = self.start()
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        self.wfile.write(self.content[start : start + count])
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def status(self, code: int) -> None:
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def altered(content: bytes) -> bytes:
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


def _redirect(handler: Handler) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _slow(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(handler.content)))
    handler.end_headers()
    for byte in range(200):
        handler.wfile.write(handler.content[byte : byte + 1])
        handler.wfile.flush()
        time.sleep(0.05)


def _silent(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(handler.content)))
    handler.end_headers()
    handler.wfile.write(handler.content[:10])
    handler.wfile.flush()
    time.sleep(1.5)


def _other_place(handler: Handler) -> None:
    """Answers a range request from another place than was asked for."""
    if not handler.start():
        return handler.drop_after(5_000)
    handler.send_response(206)
    handler.send_header("Content-Length", str(len(handler.content)))
    handler.send_header("Content-Range", f"bytes 0-{len(handler.content) - 1}/{len(handler.content)}")
    handler.end_headers()
    handler.wfile.write(handler.content)


BEHAVIOURS: dict[str, Behaviour] = {
    "good": lambda handler: handler.send(handler.content),
    "ignores-range": lambda handler: (
        handler.drop_after(5_000) if handler.seen() == 1 else handler.send(handler.content, ranged=False)
    ),
    "drops": lambda handler: handler.drop_after(7_000),
    "drops-at-once": lambda handler: handler.drop_after(0),
    "truncated": lambda handler: handler.send(handler.content[:-1000]),
    "too-long": lambda handler: handler.send(handler.content + b"more"),
    "altered": lambda handler: handler.send(altered(handler.content)),
    "404": lambda handler: handler.status(404),
    "500": lambda handler: handler.status(500),
    "500-once": lambda handler: handler.status(500) if handler.seen() == 1 else handler.send(handler.content),
    "loop": _redirect,
    "slow": _slow,
    "silent": _silent,
    "other-place": _other_place,
}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave are part of the tests."""


@contextlib.contextmanager
def serving(content: bytes) -> Iterator[ThreadingHTTPServer]:
    """A server on a free port; it has ``url(behaviour)`` and ``requests``, pairs of path and asked range."""
    server = Server(("127.0.0.1", 0), Handler)
    server.content, server.behaviours, server.requests = content, BEHAVIOURS, []  # type: ignore[attr-defined]
    server.url = lambda name: f"http://127.0.0.1:{server.server_port}/{name}/file.bin"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def patience() -> Patience:
    """Little: a test that waits for a server is over within two seconds."""
    return Patience(connect=1.0, stall=0.4, least_rate=2_000.0, window=0.4, attempts=3, pause=0.01)


@pytest.fixture
def server():
    with serving(CONTENT) as running:
        yield running


@pytest.fixture
def catalogue(tmp_path: Path, server) -> Callable[..., Path]:
    """``catalogue("drops", "good")``: a catalogue whose data set ``one`` has these addresses, in this order."""

    def write(*behaviours: str, content: bytes = CONTENT, unpack: str | None = None, files: dict | None = None) -> Path:
        server.content = content
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        entry = {
            "title": "One file",
            "home": "http://example.invalid/",
            "files": files or {"file.bin": checksum},
            "downloads": [
                {
                    "name": "file.bin",
                    "bytes": len(content),
                    "checksum": checksum,
                    "urls": [server.url(name) for name in behaviours],
                    **({"unpack": unpack} if unpack else {}),
                }
            ],
        }
        path = tmp_path / f"catalogue-{len(list(tmp_path.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump({"one": entry}))
        return path

    return write
