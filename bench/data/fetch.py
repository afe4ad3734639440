"""Complete data sets: found below the data folder or downloaded, and checked either way."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

from bench.data.sources import CATALOGUE, Download, Source, digest, source
from bench.errors import UserError

TIMEOUT = 30.0
"""Seconds without a connection, or without a byte, after which a server is given up."""
RETRIES = 2
"""Further attempts at one address."""
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)


def ensure(name: str, root: Path, *, catalogue: Path = CATALOGUE) -> list[Path]:
    """The files of a data set, downloaded if they are missing, with the right checksums.

    Args:
        name: of the data set, as in the catalogue.
        root: the data folder.
        catalogue: a file like ``sources.yaml``.

    Raises:
        UserError: a file is altered, or it is missing and cannot be downloaded. One line says what to do.
    """
    dataset = source(name, catalogue)
    if missing(dataset, root):
        _fetch(dataset, root)
    for path, checksum in dataset.files.items():
        _verify(root / path, checksum)
    return [root / path for path in dataset.files]


def missing(dataset: Source, root: Path) -> list[str]:
    """Files of a source that are not below the data folder."""
    return [path for path in dataset.files if not (root / path).exists()]


def _verify(path: Path, checksum: str) -> None:
    if checksum == "any":
        return
    try:
        actual = digest(path, checksum)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); fix its permissions, or delete it") from error
    if actual != checksum:
        raise UserError(
            f"{path}: altered or cut short ({path.stat().st_size:,} bytes, {actual}, expected {checksum}); "
            "delete it to download it again"
        )


def _fetch(dataset: Source, root: Path) -> None:
    """Downloads what is missing. One process at a time, in a folder of its own: nothing appears half-written."""
    from filelock import FileLock, Timeout

    stage = root / ".fetch"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".fetch.lock", timeout=3600):
            for download in dataset.downloads:
                shutil.rmtree(stage, ignore_errors=True)  # of a process that was killed
                if _brings(download, missing(dataset, root)):
                    try:
                        _bring(download, dataset, root, stage)
                    finally:
                        shutil.rmtree(stage, ignore_errors=True)
    except Timeout:
        raise UserError(f"{root}: another process has been downloading for an hour; stop it and repeat") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{root}: no space left for {dataset.title}; free some space and repeat, or set BENCH_DATA to another folder"
            ) from error
        raise UserError(
            f"{root}: cannot be written ({error.strerror}), and {missing(dataset, root)[0]} is missing there; set "
            f"BENCH_DATA to a folder that has {dataset.title}, or to a folder that can be written"
        ) from error


def _brings(download: Download, absent: list[str]) -> bool:
    """Whether a download holds one of the missing files."""
    if download.unpack in ("tar", "zip"):
        return bool(absent)
    return download.name.removesuffix(".gz" if download.unpack == "gzip" else "") in absent


def _bring(download: Download, dataset: Source, root: Path, stage: Path) -> None:
    archive = root / download.name
    if archive.exists():  # put there by a person, or by torchvision
        _verify(archive, download.checksum)
    else:
        archive = _download(download, dataset, stage / "download", root)
    content = stage / "content"
    try:
        _unpack(archive, download, content)
    except DAMAGED as error:
        raise UserError(f"{archive.name}: damaged ({error}); delete it to download it again") from error
    _move(content, root)
    if absent := [name for name in missing(dataset, root) if _brings(download, [name])]:
        raise UserError(
            f"{archive.name}: does not hold {absent[0]}; the entry of {dataset.title} in sources.yaml is wrong"
        )


def _download(download: Download, dataset: Source, folder: Path, root: Path) -> Path:
    """Fetches a file from the first address that has the right content."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    # Unpacked by nobody on the way: the checksum is that of the file as it is stored.
    get = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}
    )
    problems = []
    for url in download.urls:
        mirror = pooch.create(
            folder,
            base_url="",
            registry={download.name: download.checksum},
            urls={download.name: url},
            retry_if_failed=RETRIES,
        )
        try:
            return Path(mirror.fetch(download.name, downloader=get))
        except requests.RequestException as error:
            answer = f"answer {error.response.status_code}" if error.response is not None else type(error).__name__
            problems.append(f"{url.split('/')[2]}: {answer}")
        except ValueError:
            problems.append(f"{url.split('/')[2]}: another checksum")
    raise UserError(
        f"{root / download.name}: missing, and could not be downloaded ({'; '.join(problems)}); get it from "
        f"{download.urls[0]} ({download.bytes / 1e6:,.1f} MB, {download.checksum}) and put it there, or set BENCH_DATA to a "
        f"folder that has {next(iter(dataset.files))}"
    )


def _unpack(archive: Path, download: Download, folder: Path) -> None:
    """Puts the files of a download below `folder`, under the paths that they have below the data folder."""
    single = folder / download.name
    if download.unpack == "tar":
        with tarfile.open(archive) as tar:
            # Nothing outside of the folder, no devices. The first releases of Python 3.11 do not have the filter.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(folder)
    elif download.unpack == "zip":
        with zipfile.ZipFile(archive) as members:
            members.extractall(folder)
    elif download.unpack == "gzip":
        single.parent.mkdir(parents=True)
        with gzip.open(archive) as packed, single.with_suffix("").open("wb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
    else:
        single.parent.mkdir(parents=True)
        os.replace(archive, single)


def _move(folder: Path, target: Path) -> None:
    """Moves what is in a folder. A new folder appears at once, and files that were there stay as they are."""
    for path in sorted(folder.iterdir()):
        destination = target / path.name
        if path.is_dir() and destination.is_dir():
            _move(path, destination)
        elif not destination.exists():
            os.replace(path, destination)
