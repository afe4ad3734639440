"""Data sets that are whole: found under the data folder, or fetched from their sources, and checked either way."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from bench.data import archives
from bench.data.sources import CATALOGUE, Download, Source, digest, source
from bench.data.transfer import Patience, Unreachable, transfer
from bench.errors import UserError

PATIENCE = Patience()


def ensure(name: str, root: Path, *, catalogue: Path = CATALOGUE, patience: Patience = PATIENCE) -> list[Path]:
    """The files of a data set, fetched when absent, with the checksums that they must have.

    Args:
        name: of the data set, as in the catalogue.
        root: the data folder.
        catalogue: a file like ``sources.yaml``.
        patience: with servers.

    Raises:
        UserError: a file is altered, or it is absent and cannot be fetched: one line that says what to do.
    """
    wanted = source(name, catalogue)
    if missing(wanted, root):
        _fetch(wanted, root, patience)
    for path, checksum in wanted.files.items():
        _verify(root / path, checksum)
    return [root / path for path in wanted.files]


def missing(wanted: Source, root: Path) -> list[str]:
    """Files of a source that are not below the data folder."""
    return [path for path in wanted.files if not (root / path).is_file()]


def _verify(path: Path, checksum: str) -> None:
    if checksum == "any":
        return
    try:
        found = digest(path, checksum)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend it or delete it") from error
    if found != checksum:
        raise UserError(
            f"{path}: altered or cut short ({path.stat().st_size:,} bytes, {found}, expected {checksum}); "
            "delete it to have it fetched again"
        )


def _fetch(wanted: Source, root: Path, patience: Patience) -> None:
    from filelock import FileLock, Timeout

    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / ".fetch.lock", timeout=3600)
        with lock:
            for stale in root.glob(".unpack-*"):
                shutil.rmtree(stale, ignore_errors=True)
            for download in wanted.downloads:
                if _brings(download, missing(wanted, root)):
                    _bring(download, wanted, root, patience)
    except Timeout:
        raise UserError(f"{root}: another process has been fetching for an hour; stop it, then call again") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{root}: no space left for {wanted.title}; free some and call again, it goes on"
            ) from error
        raise UserError(
            f"{root}: cannot be written ({error.strerror}), and {missing(wanted, root)[0]} is missing there; set "
            f"BENCH_DATA to a folder that has {wanted.title}, or to one that can be written"
        ) from error


def _brings(download: Download, absent: list[str]) -> bool:
    """Whether one of the absent files comes with a download."""
    if download.unpack in ("tar", "zip"):
        return bool(absent)
    return download.name.removesuffix(".gz" if download.unpack == "gzip" else "") in absent


def _bring(download: Download, wanted: Source, root: Path, patience: Patience) -> None:
    path = root / download.name
    placed = path.exists()  # by a person, or by torchvision
    if placed:
        _verify(path, download.checksum)
    else:
        _download(download, path, wanted, patience)
    if download.unpack == "gzip":
        archives.gunzip(path, path.with_suffix(""))
    elif download.unpack is not None:
        archives.unpack(path, download.unpack, root, last=wanted.files)
    if download.unpack is not None and not placed:
        path.unlink()
    absent = [name for name in missing(wanted, root) if _brings(download, [name])]
    if absent:
        raise UserError(f"{path}: does not hold {absent[0]}; the entry of {wanted.title} in sources.yaml is wrong")


def _download(download: Download, path: Path, wanted: Source, patience: Patience) -> None:
    """From the first address that gives the right content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    needed = download.bytes * (1 if download.unpack is None else 4)
    if free < needed:
        raise UserError(
            f"{path.parent}: {free / 1e6:,.0f} MB free, {wanted.title} needs {needed / 1e6:,.0f} MB; free some, or set "
            "BENCH_DATA to a folder elsewhere"
        )
    problems = []
    for url in download.urls:
        try:
            return _from(url, download, path, patience)
        except Unreachable as error:
            problems.append(f"{url.split('/')[2]}: {error}")
    raise UserError(
        f"{path}: missing, and could not be fetched ({'; '.join(problems)}); get it from {download.urls[0]} "
        f"({download.bytes / 1e6:,.1f} MB, {download.checksum}) and put it there, or set BENCH_DATA to a folder that has "
        f"{next(iter(wanted.files))}"
    )


def _from(url: str, download: Download, path: Path, patience: Patience) -> None:
    """One address; pooch checks the content and puts it in place at once."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    part = path.with_name(path.name + ".part")
    resumed = False

    def downloader(address: str, target: str, _: object) -> None:
        nonlocal resumed
        resumed = transfer(address, part, size=download.bytes, patience=patience)
        os.replace(part, target)

    for attempt in range(2):
        try:
            pooch.retrieve(url, known_hash=download.checksum, fname=path.name, path=path.parent, downloader=downloader)
            return
        except ValueError as error:
            # A beginning that came from elsewhere may be to blame; the part is gone, so the second try is all from here.
            if attempt or not resumed:
                raise Unreachable("its content has another checksum") from error
