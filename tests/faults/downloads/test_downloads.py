"""Downloads from servers that fail: tried again, or refused and the next mirror used; checked before use either way."""

from __future__ import annotations

import gzip
import io
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from bench.data import fetch
from bench.errors import UserError


def left(root: Path) -> list[str]:
    """Files below the data folder, without locks."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")


@pytest.mark.parametrize("behaviour", ["good", "500-once"])
def test_a_file_is_downloaded(behaviour: str, catalogue, tmp_path: Path, server) -> None:
    root = tmp_path / "data"
    (path,) = fetch.ensure("one", root, catalogue=catalogue(behaviour))
    assert path.read_bytes() == server.content
    assert left(root) == ["file.bin"]


REFUSED = {
    "drops": "ChunkedEncodingError",
    "truncated": "another checksum",
    "altered": "another checksum",
    "404": "answer 404",
    "500": "answer 500",
    "loop": "answer 302",
    "silent": "ConnectionError",
}
"""Behaviour -> the reason that is given."""


@pytest.mark.parametrize("behaviour", REFUSED)
def test_a_server_that_fails_is_named_in_one_line(behaviour: str, catalogue, tmp_path: Path) -> None:
    root = tmp_path / "data"
    with pytest.raises(UserError, match=rf"127\.0\.0\.1:\d+: {REFUSED[behaviour]}") as caught:
        fetch.ensure("one", root, catalogue=catalogue(behaviour))
    text = str(caught.value)
    assert len(text.splitlines()) == 1 and "BENCH_DATA" in text
    assert left(root) == [], "nothing wrong is left"


@pytest.mark.parametrize("behaviour", REFUSED)
def test_the_next_mirror_is_tried(behaviour: str, catalogue, tmp_path: Path, server) -> None:
    root = tmp_path / "data"
    (path,) = fetch.ensure("one", root, catalogue=catalogue(behaviour, "good"))
    assert path.read_bytes() == server.content
    assert left(root) == ["file.bin"]


def test_without_a_network_one_line_says_what_to_do(catalogue, tmp_path: Path, server) -> None:
    path = catalogue("good")
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=r"ConnectionError.*put it there.*BENCH_DATA.*file\.bin"):
        fetch.ensure("one", tmp_path / "data", catalogue=path)


def test_a_folder_that_cannot_be_written_is_named(catalogue, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.write_text("a file")
    with pytest.raises(UserError, match=r"data: cannot be written .*BENCH_DATA"):
        fetch.ensure("one", root, catalogue=catalogue("good"))


def test_present_files_are_not_downloaded_and_an_altered_one_is_named(catalogue, tmp_path: Path, server) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "file.bin").write_bytes(server.content)
    fetch.ensure("one", root, catalogue=catalogue("404"))
    assert server.requests == []
    for content in (server.content[:-1] + b"?", server.content[:-1]):
        (root / "file.bin").write_bytes(content)
        with pytest.raises(UserError, match=rf"file\.bin: altered.*{len(content):,} bytes.*delete it") as caught:
            fetch.ensure("one", root, catalogue=catalogue("404"))
        assert len(str(caught.value).splitlines()) == 1


def test_several_processes_download_once(catalogue, tmp_path: Path, server) -> None:
    path, root = catalogue("good"), tmp_path / "data"
    errors: list[BaseException] = []

    def call() -> None:
        try:
            fetch.ensure("one", root, catalogue=path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and len(server.requests) == 1


def tar_of(members: dict[str, bytes], *, links: dict[str, str] | None = None) -> bytes:
    """A packed tar; `links` are symbolic."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "pack"), [("tar", tar_of), ("zip", zip_of)])
def test_an_archive_is_unpacked_beside_what_is_there(kind: str, pack, catalogue, tmp_path: Path) -> None:
    content = pack({"set/a": b"1", "set/deep/b": b"2", "other/c": b"3"})
    root = tmp_path / "data"
    (root / "set").mkdir(parents=True)
    (root / "set" / "a").write_bytes(b"mine")
    (root / ".fetch").mkdir()  # of a process that was killed
    (root / ".fetch" / "half").write_bytes(b"1")
    files = {"set/a": "any", "set/deep/b": "any"}
    paths = fetch.ensure("one", root, catalogue=catalogue("good", content=content, unpack=kind, files=files))
    assert [path.read_bytes() for path in paths] == [b"mine", b"2"]
    assert left(root) == ["other/c", "set/a", "set/deep/b"]


def test_an_archive_that_a_person_put_there_is_used_and_kept(catalogue, tmp_path: Path, server) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "file.bin.gz").write_bytes(gzip.compress(b"1"))
    path = catalogue("404", content=(root / "file.bin.gz").read_bytes(), unpack="gzip", files={"file.bin": "any"})
    assert fetch.ensure("one", root, catalogue=path)[0].read_bytes() == b"1"
    assert left(root) == ["file.bin", "file.bin.gz"] and server.requests == []
    (root / "file.bin").unlink()
    (root / "file.bin.gz").write_bytes(b"other")
    with pytest.raises(UserError, match=r"file\.bin\.gz: altered"):
        fetch.ensure("one", root, catalogue=path)


ARCHIVES = {
    "damaged tar": ("tar", tar_of({"set/a": b"1" * 5000})[:-20]),
    "damaged zip": ("zip", zip_of({"set/a": b"1" * 5000})[:-20]),
    "damaged gzip": ("gzip", gzip.compress(b"1" * 5000)[:-4]),
    "a level up": ("tar", tar_of({"../owned": b"1"})),
    "two levels up": ("tar", tar_of({"set/../../owned": b"1"})),
    "link to a file": ("tar", tar_of({}, links={"set/link": "/etc/passwd"})),
    "link to a folder": ("tar", tar_of({"set/link/owned": b"1"}, links={"set/link": "../.."})),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_is_damaged_or_reaches_out_leaves_nothing(name: str, catalogue, tmp_path: Path) -> None:
    kind, content = ARCHIVES[name]
    root = tmp_path / "deep" / "data"
    wrong = catalogue("good", content=content, unpack=kind, files={"file.bin": "any"})
    with pytest.raises(UserError, match="damaged") as caught:
        fetch.ensure("one", root, catalogue=wrong)
    assert len(str(caught.value).splitlines()) == 1
    assert left(root) == [] and not list(tmp_path.rglob("owned*"))


@pytest.mark.parametrize("name", ["/owned-absolute", "../../owned"])
def test_members_of_a_zip_stay_below_the_data_folder(name: str, catalogue, tmp_path: Path) -> None:
    root = tmp_path / "deep" / "data"
    fetch.ensure(
        "one",
        root,
        catalogue=catalogue("good", content=zip_of({name: b"1", "a": b"1"}), unpack="zip", files={"a": "any"}),
    )
    assert all(path.is_relative_to(root) for path in tmp_path.rglob("owned*")) and not Path("/owned-absolute").exists()


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x"])
def test_a_catalogue_cannot_name_a_place_outside_the_data_folder(name: str, catalogue, tmp_path: Path) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match="below the data folder"):
        fetch.ensure("one", tmp_path / "data", catalogue=catalogue("good", files={name: "any"}))
