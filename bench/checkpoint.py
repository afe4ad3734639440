"""Files that are whole or absent: atomic writes, resume state, weights."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bench.errors import UserError

if TYPE_CHECKING:
    import torch

POINTER = b"version https://git-lfs"
"""Begins the file that git leaves in place of a large one that git-lfs has not fetched."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of a full disk or an exhausted quota."""


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under `path` only when it is complete and on the disk.

    Raises:
        UserError: no space is left; the partial file is removed and an earlier file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        if error.errno in FULL:
            raise UserError(f"{path}: no space left while writing; free some and call again, it goes on") from error
        raise
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    with atomic(path) as stream:
        stream.write(content)


def write_text(path: Path, content: str) -> None:
    """Writes text as UTF-8, whatever the locale."""
    write_bytes(path, content.encode("utf-8"))


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _ErrorKeeping:
    """A stream that keeps the error of its first failed write."""

    def __init__(self, stream: IO[bytes]):
        self._stream = stream
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            return self._stream.write(content)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._stream.flush()


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes resume state: tensors and plain Python values only, so that reading it can run no code."""
    import torch

    with atomic(path) as stream:
        keeping = _ErrorKeeping(stream)
        try:
            torch.save(dict(state), keeping)  # type: ignore[arg-type]
        except RuntimeError as error:
            # torch wraps what a stream raises into an error of its own that names no cause.
            raise keeping.error or error from error


def load_state(path: Path) -> dict[str, Any]:
    """Reads resume state with ``weights_only=True``.

    Raises:
        UserError: the file is damaged or holds more than tensors and plain values.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own text recommends to unpickle without a check.
        raise UserError(f"{path}: not a readable checkpoint; delete it to start this run again") from error


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> str:
    """Writes named tensors as safetensors and returns the file's sha256."""
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def load_tensors(path: Path, *, expected_sha256: str | None = None) -> dict[str, torch.Tensor]:
    """Reads named tensors onto the CPU.

    Raises:
        UserError: the file is absent, damaged, or another one than was recorded.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such weights; train the run that leaves them first") from None
    if expected_sha256 is not None and (digest := hashlib.sha256(content).hexdigest()) != expected_sha256:
        raise UserError(
            f"{path}: sha256 {digest[:12]}…, its record says {expected_sha256[:12]}…; delete it to train again"
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}); delete it to train again") from error
