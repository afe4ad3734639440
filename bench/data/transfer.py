"""One file over HTTP: goes on where a broken connection stopped, gives up on a server that is no use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import requests


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        connect: seconds to reach it.
        stall: seconds without a byte.
        least_rate: bytes per second, over `window` seconds, below which another mirror is tried.
        window: see `least_rate`.
        attempts: tries in a row that bring nothing.
        pause: seconds before the second of them, doubled each time.
    """

    connect: float = 15.0
    stall: float = 30.0
    least_rate: float = 2_000.0
    window: float = 30.0
    attempts: int = 3
    pause: float = 1.0


class Unreachable(Exception):
    """This address does not give the file; another may. Its text is a short reason."""


class Interrupted(Exception):
    """The connection broke; trying again may help."""


def transfer(url: str, part: Path, *, size: int, patience: Patience) -> bool:
    """Downloads until `part` has `size` bytes.

    Args:
        url: where from.
        part: a file that may hold the beginning already.
        size: bytes that it must have.
        patience: when to give up.

    Returns:
        Whether what was there already was made use of, so that the content may be of two origins.

    Raises:
        Unreachable: not from this address. `part` keeps what came.
    """
    used = have = _length(part)
    idle = 0
    while True:
        try:
            kept = _continue(url, part, have, size, patience)
            used = min(used, kept)
            return used > 0
        except Interrupted as error:
            now = _length(part)
            idle = 0 if now > have else idle + 1
            have = now
            if idle >= patience.attempts:
                raise Unreachable(str(error)) from error
            time.sleep(patience.pause * 2 ** max(idle - 1, 0))


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _continue(url: str, part: Path, have: int, size: int, patience: Patience) -> int:
    """One request; returns the bytes that were kept of what was there."""
    import requests

    if have >= size:
        part.unlink()
        have = 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(patience.connect, patience.stall)) as answer:
            kept = _check(answer, have, size)
            with part.open("r+b" if kept else "wb") as stream:
                stream.seek(kept)
                _copy(answer, stream, url, kept, size, patience)
    except requests.TooManyRedirects as error:
        raise Unreachable("redirects without end") from error
    except requests.Timeout as error:
        raise Interrupted("no answer in time") from error
    except requests.ConnectionError as error:
        raise Interrupted("no connection") from error
    except requests.RequestException as error:
        raise Unreachable(type(error).__name__) from error
    return kept


def _check(answer: requests.Response, have: int, size: int) -> int:
    """The position from which the answer goes on; refuses what cannot be the file."""
    if answer.status_code in (408, 429) or answer.status_code >= 500:
        raise Interrupted(f"the server answers {answer.status_code}")
    if answer.status_code not in (200, 206):
        raise Unreachable(f"the server answers {answer.status_code}")
    start = have if answer.status_code == 206 else 0
    if start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise Unreachable("the server continues at another place than was asked for")
    length = answer.headers.get("Content-Length")
    if length is not None and length.isdigit() and start + int(length) != size:
        raise Unreachable(f"the server's file has {start + int(length):,} bytes, expected {size:,}")
    return start


def _copy(answer: requests.Response, stream: Any, url: str, have: int, size: int, patience: Patience) -> None:
    from tqdm import tqdm

    where = urlsplit(url)
    name = f"{Path(where.path).name} from {where.hostname}"
    with tqdm(total=size, initial=have, unit="B", unit_scale=True, desc=name, disable=None, leave=False) as bar:
        for chunk in _paced(_chunks(answer), patience):
            have += len(chunk)
            if have > size:
                raise Unreachable(f"the server's file has more than {size:,} bytes")
            stream.write(chunk)
            bar.update(len(chunk))
    if have < size:
        raise Interrupted(f"the connection closed after {have:,} of {size:,} bytes")


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    """The bytes as they are on the server: a .gz stays packed whatever encoding the server claims."""
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    try:
        # What has come is handed on at once: waiting for a full block would hide a server that sends byte by byte.
        while chunk := answer.raw.read1(1 << 16, decode_content=False):
            yield chunk
    except ReadTimeoutError as error:
        raise Interrupted("the server stopped sending") from error
    except HTTPError as error:
        raise Interrupted("the connection broke") from error


def _paced(chunks: Iterator[bytes], patience: Patience) -> Iterator[bytes]:
    """The chunks, as long as they come fast enough."""
    began, received = time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        received += len(chunk)
        seconds = time.monotonic() - began
        if seconds >= patience.window:
            if received < patience.least_rate * seconds:
                raise Unreachable(f"the server sends {received / seconds:,.0f} bytes per second")
            began, received = time.monotonic(), 0
