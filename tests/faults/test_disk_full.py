"""A disk that fills up while something is written: one clear line, nothing half-written, and it goes on afterwards."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from bench import checkpoint, record
from bench.cli.main import main
from bench.data import fetch, shards
from bench.errors import UserError
from bench.run import Result


class Disk:
    """A small file system of its own."""

    def __init__(self, root: Path):
        self.root = root

    def fill(self, leave: int) -> None:
        """Leaves about `leave` bytes free."""
        free = shutil.disk_usage(self.root).free
        (self.root / "ballast").write_bytes(b"\0" * max(0, free - leave))

    def empty(self) -> None:
        (self.root / "ballast").unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    """``disk(400_000)``: a file system of that size in memory; skipped where it cannot be mounted."""
    root = tmp_path / "disk"
    root.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")

    def mount(size: int) -> Disk:
        call = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(root)]
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
        return Disk(root)

    yield mount
    if root.is_mount():
        subprocess.run(["umount", "--lazy", str(root)], check=True)


def files(root: Path) -> list[str]:
    """All files but locks and ballast, also hidden ones."""
    found = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != "ballast")
    return sorted(str(path.relative_to(root)) for path in found)


def write_record(root: Path) -> bool:
    result = Result({"val_acc": 50.0}, {"epochs": {"epoch": list(range(10_000))}})
    written = record.Record("key", {"seed": 0}, "a run", result, {}, {})
    record.write(root / "key.json", written)
    return record.read(root / "key.json") == written


def write_weights(root: Path) -> bool:
    checkpoint.save_tensors(root / "weights.safetensors", {"w": torch.ones(40_000)})
    return len(checkpoint.load_tensors(root / "weights.safetensors")["w"]) == 40_000


def unpack_data(root: Path) -> bool:
    """An archive that was put into the data folder, which has no room for its content."""
    packed = gzip.compress(bytes(range(256)) * 600, compresslevel=0)
    download = {"name": "file.gz", "bytes": len(packed), "checksum": f"sha256:{hashlib.sha256(packed).hexdigest()}"}
    source = {"files": {"file": "any"}, "downloads": [download | {"unpack": "gzip", "urls": ["http://127.0.0.1:9/"]}]}
    catalogue = root.parent / "catalogue.yaml"
    catalogue.write_text(json.dumps({"one": {"title": "One file", "home": "http://127.0.0.1:9/"} | source}))
    (root.parent / "file.gz").write_bytes(packed)
    if not (root / "file.gz").exists():
        (root / "file.gz").symlink_to(root.parent / "file.gz")
    return fetch.ensure("one", root, catalogue=catalogue)[0].stat().st_size == 153_600


@pytest.mark.parametrize(
    ("write", "leave", "left"),
    [(write_record, 8_192, []), (write_weights, 40_000, []), (unpack_data, 50_000, ["file.gz"])],
)
def test_what_does_not_fit_leaves_nothing_and_can_be_written_later(
    disk, write: Callable[[Path], bool], leave: int, left: list[str]
) -> None:
    small = disk(400_000)
    small.fill(leave)
    with pytest.raises(UserError, match="no space left") as caught:
        write(small.root)
    assert len(str(caught.value).splitlines()) == 1 and files(small.root) == left
    small.empty()
    assert write(small.root)


def test_a_checkpoint_stays_the_last_whole_one(disk) -> None:
    small = disk(400_000)
    path = small.root / "state.pt"
    checkpoint.save_state(path, {"step": 1, "weights": torch.ones(20_000)})
    small.fill(leave=40_000)
    with pytest.raises(UserError, match="no space left"):
        checkpoint.save_state(path, {"step": 2, "weights": torch.ones(40_000)})
    assert checkpoint.load_state(path)["step"] == 1 and files(small.root) == ["state.pt"]
    small.empty()
    checkpoint.save_state(path, {"step": 2, "weights": torch.ones(40_000)})
    assert checkpoint.load_state(path)["step"] == 2


def test_a_shard_that_is_not_whole_is_none(disk) -> None:
    small = disk(400_000)
    path = small.root / "text"

    def write() -> None:
        writer = shards.Writer(path, vocabulary=1000, tokenizer="t", origin="o")
        try:
            for _ in range(100):
                writer.add([1] * 1000)
            writer.close()
        except BaseException:
            writer.abandon()
            raise

    small.fill(leave=60_000)
    with pytest.raises((UserError, OSError), match=r"(?i)no space left"):
        write()
    with pytest.raises(UserError, match="no such shard"):
        shards.open_shard(path)
    small.empty()
    write()
    assert shards.open_shard(path).index.tokens == 100_000


@pytest.mark.parametrize("leave", [0, 40_000, 90_000])
def test_runs_that_are_finished_stay_and_the_rest_goes_on(
    leave: int, disk, invented: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = disk(1_500_000)
    small.fill(leave)
    monkeypatch.setenv("BENCH_RESULTS", str(small.root / "results"))
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")
    assert main(["run", "--scale", str(invented)]) in (1, 2)
    assert "no space left" in capsys.readouterr().err
    runs = small.root / "results" / "toy" / "runs"
    finished = {path.name: path.read_bytes() for path in runs.glob("*.json")}
    for name in finished:
        record.read(runs / name)
    small.empty()
    assert main(["run", "--scale", str(invented)]) == 0
    records = {path.name: path.read_bytes() for path in runs.glob("*.json")}
    assert len(records) == 15 and records.items() >= finished.items()


def test_no_half_of_a_figure_is_left(
    disk, invented: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = disk(2_000_000)
    monkeypatch.setenv("BENCH_RESULTS", str(small.root / "results"))
    for step in ("run", "collect"):
        assert main([step, "--scale", str(invented)]) == 0
    small.fill(leave=6_000)
    capsys.readouterr()
    words = ["draw", "--scale", str(invented), "--exhibits", "invented/curve"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    drawn = small.root / "results" / "toy" / "exhibits" / "invented"
    assert "no space left" in line and not list(drawn.glob("curve.p*")) and not list(drawn.glob(".*"))
    small.empty()
    assert main(words) == 0
    assert (drawn / "curve.pdf").read_bytes().rstrip().endswith(b"%%EOF")
