"""Unpacking archives that strangers made: nothing lands outside the folder, and nothing appears half-written."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from bench import checkpoint
from bench.errors import UserError

BROKEN = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)


def _inside(archive: Path, name: str) -> PurePosixPath:
    """A member's path, if it stays below the folder."""
    path = PurePosixPath(name)
    # A colon names a drive or a stream, a backslash separates folders, on systems where we do not run; archives travel.
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or ":" in name or "\0" in name:
        raise UserError(f"{archive}: member '{name}' would land outside its folder; do not use this archive")
    return path


def _tar_members(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    with tarfile.open(archive) as content:
        for member in content:
            path = _inside(archive, member.name)
            if member.isdir():
                continue
            stream = content.extractfile(member) if member.isreg() else None
            if stream is None:
                raise UserError(f"{archive}: member '{member.name}' is a link or a device; do not use this archive")
            yield path, stream


def _zip_members(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            path = _inside(archive, member.filename)
            if (member.external_attr >> 16) & 0o170000 == 0o120000:
                raise UserError(f"{archive}: member '{member.filename}' is a link; do not use this archive")
            if not member.is_dir():
                with content.open(member) as stream:
                    yield path, stream


def unpack(archive: Path, kind: Literal["tar", "zip"], folder: Path, *, last: Collection[str] = ()) -> None:
    """Unpacks an archive below `folder`; files that are there already stay as they are.

    Args:
        archive: whose checksum has been verified.
        kind: how it is packed.
        folder: what the members' names start from.
        last: files that say "all is here": they appear after everything else.

    Raises:
        UserError: a member would land outside, is a link, or the archive is damaged. Nothing has been put in place.
    """
    stage = Path(tempfile.mkdtemp(prefix=".unpack-", dir=folder))
    try:
        for path, stream in _tar_members(archive) if kind == "tar" else _zip_members(archive):
            target = stage / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as copy:
                shutil.copyfileobj(stream, copy, 1 << 20)
        _put_in_place(stage, folder, frozenset(last))
    except BROKEN as error:
        raise UserError(f"{archive}: damaged ({error}); delete it to have it fetched again") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _put_in_place(stage: Path, folder: Path, last: frozenset[str]) -> None:
    for top in sorted(stage.iterdir()):
        if not (folder / top.name).exists():
            os.replace(top, folder / top.name)  # the usual case: a whole folder appears at once
    rest = [path for path in stage.rglob("*") if path.is_file()]
    for path in sorted(rest, key=lambda path: (str(path.relative_to(stage)) in last, path)):
        target = folder / path.relative_to(stage)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


def gunzip(archive: Path, target: Path) -> None:
    """Writes the one file that a ``.gz`` holds.

    Raises:
        UserError: the archive is damaged or no space is left; `target` is as it was.
    """
    try:
        with gzip.open(archive) as stream, checkpoint.atomic(target) as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
    except BROKEN as error:
        raise UserError(f"{archive}: damaged ({error}); delete it to have it fetched again") from error
