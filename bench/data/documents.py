"""Documents of a corpus: JSONL (plain, gzip or zstd) and Parquet, below the data folder or streamed from the hub."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from bench import checkpoint
from bench.data import text
from bench.data.sources import Hub
from bench.errors import UserError

PACKED = (".zst", ".zstd", ".gz")
KINDS = (".jsonl", ".json", ".parquet")
GZIP, ZSTD, SKIPPABLE = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
"""First bytes of files; a zstd file may begin with a frame to skip, whose second to fourth bytes are the third."""
OTHERS = {
    b"PAR1": ("Parquet", "name it .parquet"),
    b"\xfd7zXZ": ("packed by xz", "unpack it"),
    b"BZh": ("packed by bzip2", "unpack it"),
    b"PK\x03\x04": ("a zip archive", "unpack it"),
    b"<!DOCTYPE": ("a web page", "fetch the file itself"),
    b"<html": ("a web page", "fetch the file itself"),
}
"""First bytes of files that hold no lines of JSON -> what they are, and what to do."""
LONGEST_WINDOW = 2**31
"""Bytes that a zstd frame may look back: what ``zstd --long=31`` makes."""
AT_ONCE = 2**16
"""Compressed bytes that are read at once."""


@dataclass(frozen=True)
class Input:
    """One file to tokenise: local, or in a hub repository at one commit.

    Attributes:
        path: local path, or path inside the repository.
        local: folder of the corpus, for local copies of the repository's files.
        hub: the repository, its revision a commit.
    """

    path: str
    local: str
    hub: Hub | None = None

    @property
    def stem(self) -> str:
        """Name of its shards: the path below the corpus's folder, without what says how the file is packed."""
        below = Path(self.path) if self.hub is not None else Path(self.path).relative_to(self.local)
        name = below.as_posix()
        for suffix in (*PACKED, *KINDS):
            name = name.removesuffix(suffix)
        return name.replace("/", "-").replace(".", "-")

    @property
    def address(self) -> str:
        if self.hub is None:
            return self.path
        return f"hf://datasets/{self.hub.repository}@{self.hub.revision}/{self.path}"

    def size(self) -> int:
        """Bytes of a local file; 0 where they are not known."""
        return Path(self.path).stat().st_size if self.hub is None else 0

    def origin(self) -> str:
        """What a shard's index names as its origin: the file's sha256, or the address at its commit."""
        return self.address if self.hub is not None else f"sha256:{checkpoint.sha256(Path(self.path))}"

    def documents(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(text, meta) of each document in the order of the file; empty ones are left out.

        Raises:
            UserError: names the file, and the line that has no text field or one that is not Unicode.
        """
        with self._opened() as stream:
            rows = _parquet(stream, self.address) if self.path.endswith(".parquet") else _jsonl(stream, self.address)
            for line, row in rows:
                if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                    fields = ", ".join(sorted(row)) if isinstance(row, dict) else type(row).__name__
                    raise UserError(f"{self.address}:{line}: no field 'text' with a string (found: {fields})")
                try:
                    row["text"].encode()
                except UnicodeEncodeError as error:
                    half = row["text"][error.start]
                    raise UserError(
                        f"{self.address}:{line}: {half!r} at character {error.start} of 'text' is half of a "
                        "surrogate pair, expected Unicode; remove it or the document"
                    ) from None
                if row["text"]:
                    yield row["text"], self._meta(line, row.get("meta") or {})

    def _opened(self) -> IO[bytes]:
        if self.hub is None:
            try:
                return Path(self.path).open("rb")
            except OSError as error:
                raise UserError(f"{self.path}: cannot be read ({error.strerror}); mend its permissions") from error
        from huggingface_hub import HfFileSystem

        try:
            return HfFileSystem().open(self.address, "rb")
        except Exception as error:  # each layer below has exceptions of its own for "no network"
            raise unreachable(self.address, self.local, error) from error

    def _meta(self, line: int, meta: Any) -> dict[str, Any]:
        """The field ``meta``: an object, or one written as a string."""
        try:
            fields = json.loads(meta) if isinstance(meta, str) else meta
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise UserError(f"{self.address}:{line}: 'meta' is no object (found: {str(meta)[:60]!r})")
        return fields


class _Frames(io.RawIOBase):
    """The content of zstd frames one after another, of any window; a file that ends within a frame is an `EOFError`."""

    def __init__(self, stream: IO[bytes]):
        import zstandard

        self._stream = stream
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=LONGEST_WINDOW)
        self._frame = self._decompressor.decompressobj()
        self._within = False
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            chunk = self._stream.read(AT_ONCE)
            if not chunk and self._within:
                raise EOFError("it ends within a frame")
            if not chunk:
                return 0
            self._ready = memoryview(b"".join(self._decompressed(chunk)))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _decompressed(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            yield self._frame.decompress(chunk)
            self._within = not self._frame.eof
            if self._within:
                return
            chunk = self._frame.unused_data
            self._frame = self._decompressor.decompressobj()


def _unpacked(stream: IO[bytes], address: str) -> Any:
    """The file as a binary stream of lines, whatever it is packed by: its first bytes tell.

    Raises:
        UserError: it is something else, with what to do about it.
    """
    start = stream.read(64)
    stream.seek(0)
    if start.startswith(checkpoint.POINTER):
        raise UserError(f"{address}: a pointer of git-lfs, not the file itself; fetch it with `git lfs pull`")
    for signature, (kind, remedy) in OTHERS.items():
        if start.startswith(signature):
            raise UserError(f"{address}: {kind}; expected JSON in lines, plain or packed by gzip or zstd: {remedy}")
    if start.startswith(GZIP):
        return gzip.GzipFile(fileobj=stream)
    if start.startswith(ZSTD) or start[1:4] == SKIPPABLE:
        return io.BufferedReader(_Frames(stream), 2**20)
    if Path(address).suffix in PACKED:
        raise UserError(f"{address}: damaged, it begins like no file of this kind; fetch it again")
    return stream


def _jsonl(stream: IO[bytes], address: str) -> Iterator[tuple[int, Any]]:
    from zstandard import ZstdError

    with io.TextIOWrapper(_unpacked(stream, address), encoding="utf-8") as lines:
        for line in itertools.count(1):
            try:
                content = next(lines)
                row = json.loads(content) if content.strip() else None
            except StopIteration:
                return
            except UnicodeDecodeError as error:
                reason = f"damaged or no UTF-8 text ({error})"
                raise UserError(f"{address}:{line}: {reason}; fetch the file again") from error
            except (OSError, EOFError, zlib.error, ZstdError) as error:
                raise UserError(f"{address}: damaged or cut short ({error}); fetch the file again") from error
            except ValueError as error:
                raise UserError(
                    f"{address}:{line}: not JSON ({error}); expected one object with 'text' in each line"
                ) from error
            if content.strip():
                yield line, row


def _parquet(stream: IO[bytes], address: str) -> Iterator[tuple[int, Any]]:
    import pyarrow
    from pyarrow import parquet

    if stream.read(len(checkpoint.POINTER)) == checkpoint.POINTER:
        raise UserError(f"{address}: a pointer of git-lfs, not the file itself; fetch it with `git lfs pull`")
    stream.seek(0)
    try:
        file = parquet.ParquetFile(stream)
        names = file.schema_arrow.names
        if "text" not in names:
            raise UserError(f"{address}: no column 'text' (found: {', '.join(names)})")
        batches = file.iter_batches(batch_size=1000, columns=[name for name in ("text", "meta") if name in names])
        rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
        yield from enumerate(rows, start=1)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:160]
        raise UserError(f"{address}: damaged or no Parquet file ({reason}); fetch the file again") from error


def unreachable(address: str, local: str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return UserError(
        f"{address}: cannot be read from the hub ({type(error).__name__}: {reason}); put a copy of the repository's "
        f"files under {local} and call again"
    )


def inputs(corpus: text.Corpus, split: str, data_root: Path) -> list[tuple[Input, str | None]]:
    """(file, source) of a split: local files where there are any, otherwise the hub's at one commit.

    Raises:
        UserError: a pattern matches nothing and no repository can be reached, or two files hold the same text.
    """
    parts: list[tuple[Input, str | None]] = []
    local = data_root / corpus.folder
    for files in corpus.files(split):
        paths = next((paths for pattern in files.patterns if (paths := sorted(local.glob(pattern)))), [])
        if paths:
            parts += [(Input(str(path), str(local)), files.source) for path in paths]
        elif not corpus.hubs:
            raise UserError(f"{local / files.pattern}: no such file; {corpus.name} needs it for its {split} split")
        else:
            parts += [(part, files.source) for part in _in_hub(corpus, files, local)]
    names: dict[str, str] = {}
    for part, _ in parts:
        if part.stem in names:
            raise UserError(f"{names[part.stem]} and {part.path}: the same text twice; remove one")
        names[part.stem] = part.path
    return parts


def _in_hub(corpus: text.Corpus, files: text.Files, local: Path) -> list[Input]:
    """The files of the first repository that can be reached."""
    failed: UserError | None = None
    for hub in corpus.hubs:
        try:
            pinned = _at_commit(hub, local)
            names = _listed(pinned)
        except Exception as error:  # the hub's client has many
            failed = failed or unreachable(f"hf://datasets/{hub.repository}@{hub.revision}", str(local), error)
            continue
        for pattern in files.patterns:
            if matching := sorted(name for name in names if fnmatch(name, pattern)):
                return [Input(name, str(local), pinned) for name in matching]
        raise UserError(f"{hub.repository} at {pinned.revision[:12]}: no file matches {' or '.join(files.patterns)}")
    assert failed is not None
    raise failed


def _at_commit(hub: Hub, local: Path) -> Hub:
    """The repository at a commit; what the first fetch finds under a branch is kept in the corpus's folder."""
    if hub.revision != "main":
        return hub
    from huggingface_hub import HfApi

    lock = local / f"{hub.repository.replace('/', '--')}.commit"
    if not lock.exists():
        commit = HfApi().repo_info(hub.repository, revision=hub.revision, repo_type="dataset").sha
        checkpoint.write_text(lock, f"{commit}\n")
    return hub.model_copy(update={"revision": lock.read_text(encoding="utf-8").strip()})


@lru_cache(maxsize=8)
def _listed(hub: Hub) -> tuple[str, ...]:
    from huggingface_hub import HfApi

    return tuple(HfApi().list_repo_files(hub.repository, revision=hub.revision, repo_type="dataset"))
