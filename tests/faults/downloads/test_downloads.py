"""Downloads from servers that fail: resumed, or refused and the next mirror tried; checked before use either way."""

from __future__ import annotations

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


@pytest.mark.parametrize("behaviour", ["good", "drops", "ignores-range", "500-once"])
def test_what_can_be_had_is_had(behaviour: str, catalogue, tmp_path: Path, patience, server, injected) -> None:
    root = tmp_path / "data"
    (path,) = fetch.ensure("one", root, catalogue=catalogue(behaviour), patience=patience)
    assert path.read_bytes() == server.content
    assert left(root) == ["file.bin"]
    if times := len(server.requests) - 1:
        injected(NAMES[behaviour], "downloads", "tried again and resumed where the file broke off", times=times)


def test_a_beginning_from_elsewhere_does_no_harm(catalogue, tmp_path: Path, patience, server) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "file.bin.part").write_bytes(b"\0" * 10)
    (path,) = fetch.ensure("one", root, catalogue=catalogue("good"), patience=patience)
    assert path.read_bytes() == server.content
    assert [asked for _, asked in server.requests] == ["bytes=10-", None], "continued, found wrong, fetched whole"


def test_a_dropped_connection_is_resumed_where_it_broke(catalogue, tmp_path: Path, patience, server) -> None:
    fetch.ensure("one", tmp_path / "data", catalogue=catalogue("drops"), patience=patience)
    ranges = [asked for _, asked in server.requests]
    assert ranges[0] is None
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in ranges[1:]]
    assert starts == sorted(starts) and starts[0] > 0 and len(starts) == 60_000 // 7_000


NAMES = {
    "good": "nothing",
    "drops": "connection drops",
    "ignores-range": "connection drops, server cannot resume",
    "500-once": "one answer 500",
    "drops-at-once": "connection drops before a byte",
    "truncated": "file cut short",
    "too-long": "wrong length",
    "altered": "altered content",
    "404": "answer 404",
    "500": "answer 500",
    "loop": "redirect loop",
    "slow": "slow server",
    "silent": "server falls silent",
    "other-place": "resumes at another place",
}

REFUSED = {
    "drops-at-once": "the connection closed after 0 of 60,000 bytes|the connection broke|no connection",
    "truncated": "the server's file has 59,000 bytes, expected 60,000",
    "too-long": "the server's file has 60,004 bytes, expected 60,000",
    "altered": "its content has another checksum",
    "404": "the server answers 404",
    "500": "the server answers 500",
    "loop": "redirects without end",
    "slow": "bytes per second",
    "silent": "the server stopped sending",
    "other-place": "the server continues at another place than was asked for",
}


@pytest.mark.parametrize("behaviour", REFUSED)
def test_what_is_wrong_is_refused_by_name_in_one_line(behaviour: str, catalogue, tmp_path: Path, patience) -> None:
    root = tmp_path / "data"
    with pytest.raises(UserError, match=REFUSED[behaviour]) as caught:
        fetch.ensure("one", root, catalogue=catalogue(behaviour), patience=patience)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert "missing, and could not be fetched" in text and "put it there, or set BENCH_DATA" in text
    assert "file.bin" not in left(root), "nothing wrong stands under the final name"


@pytest.mark.parametrize("behaviour", REFUSED)
def test_the_next_mirror_is_tried(behaviour: str, catalogue, tmp_path: Path, patience, server, injected) -> None:
    root = tmp_path / "data"
    (path,) = fetch.ensure("one", root, catalogue=catalogue(behaviour, "good"), patience=patience)
    assert path.read_bytes() == server.content
    assert left(root) == ["file.bin"]
    times = len(server.requests) - 1
    injected(NAMES[behaviour], "downloads", "refused by name, the next mirror is used", times=times)


def test_no_server_at_all_says_what_to_do(catalogue, tmp_path: Path, patience, server) -> None:
    path = catalogue("good")
    server.shutdown()
    server.server_close()
    with pytest.raises(
        UserError, match=r"no connection.*put it there, or set BENCH_DATA to a folder that has file\.bin"
    ):
        fetch.ensure("one", tmp_path / "data", catalogue=path, patience=patience)


def test_what_is_there_is_not_fetched_and_an_altered_file_is_named(catalogue, tmp_path: Path, server) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "file.bin").write_bytes(server.content)
    fetch.ensure("one", root, catalogue=catalogue("404"))
    assert server.requests == []
    (root / "file.bin").write_bytes(server.content[:-1] + b"?")
    with pytest.raises(UserError, match=r"file\.bin: altered or cut short \(60,000 bytes, .*delete it") as caught:
        fetch.ensure("one", root, catalogue=catalogue("404"))
    assert len(str(caught.value).splitlines()) == 1
    (root / "file.bin").write_bytes(server.content[:-1])
    with pytest.raises(UserError, match=r"altered or cut short \(59,999 bytes"):
        fetch.ensure("one", root, catalogue=catalogue("404"))


def test_two_processes_fetch_once(catalogue, tmp_path: Path, patience, server) -> None:
    path, root = catalogue("good"), tmp_path / "data"
    errors: list[BaseException] = []

    def call() -> None:
        try:
            fetch.ensure("one", root, catalogue=path, patience=patience)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and len(server.requests) == 1


def tar_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_an_archive_is_unpacked_after_its_checksum_and_goes(catalogue, tmp_path: Path, patience) -> None:
    content = tar_of(**{"set/a": b"1", "set/b": b"2"})
    files = {"set/a": "any", "set/b": "any"}
    root = tmp_path / "data"
    found = fetch.ensure(
        "one", root, catalogue=catalogue("good", content=content, unpack="tar", files=files), patience=patience
    )
    assert [path.read_bytes() for path in found] == [b"1", b"2"]
    assert left(root) == ["set/a", "set/b"]


def test_a_damaged_archive_leaves_nothing(catalogue, tmp_path: Path, patience) -> None:
    content = tar_of(**{"set/a": b"1" * 5000})[:-20]
    root = tmp_path / "data"
    wrong = catalogue("good", content=content, unpack="tar", files={"set/a": "any"})
    with pytest.raises(UserError, match="damaged"):
        fetch.ensure("one", root, catalogue=wrong, patience=patience)
    assert "set/a" not in left(root)


def hostile_tar(name: str, *, link: str | None = None, hard: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        if link is not None:
            member.type = tarfile.LNKTYPE if hard else tarfile.SYMTYPE
            member.linkname = link
            archive.addfile(member)
        else:
            member.size = 5
            archive.addfile(member, io.BytesIO(b"owned"))
    return buffer.getvalue()


def hostile_zip(name: str, *, link: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        member = zipfile.ZipInfo(name)
        if link:
            member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd" if link else "owned")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        ("tar", hostile_tar("../owned"), "would land outside"),
        ("tar", hostile_tar("/owned-absolute"), "would land outside"),
        ("tar", hostile_tar("set/../../owned"), "would land outside"),
        ("tar", hostile_tar("set/link", link="/etc/passwd"), "is a link"),
        ("tar", hostile_tar("set/link", link="../../etc/passwd", hard=True), "is a link"),
        ("zip", hostile_zip("../owned"), "would land outside"),
        ("zip", hostile_zip("a\\..\\..\\owned"), "would land outside"),
        ("zip", hostile_zip("set/link", link=True), "is a link"),
    ],
)
def test_an_archive_that_reaches_out_is_refused(
    kind: str, content: bytes, expected: str, catalogue, tmp_path: Path, patience, injected
) -> None:
    root = tmp_path / "deep" / "data"
    wrong = catalogue("good", content=content, unpack=kind, files={"set/a": "any"})
    with pytest.raises(UserError, match=expected):
        fetch.ensure("one", root, catalogue=wrong, patience=patience)
    assert not list(tmp_path.rglob("owned*")) and not Path("/owned-absolute").exists()
    assert not list(tmp_path.rglob("link"))
    injected("path traversal, links", "archives of data sets", "refused, nothing is unpacked")


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x"])
def test_a_catalogue_cannot_name_a_place_outside_the_data_folder(name: str, catalogue, tmp_path: Path) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match="below the data folder"):
        fetch.ensure("one", tmp_path / "data", catalogue=catalogue("good", files={name: "any"}))
