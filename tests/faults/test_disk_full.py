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

from bench import checkpoint, record
from bench.data import fetch
from bench.errors import UserError


class Disk:
    """A small file system of its own."""

    def __init__(self, root: Path):
        self.root = root

    def fill(self, leave: int) -> None:
        """Leaves about `leave` bytes free."""
        self.empty()
        ballast = self.root / "ballast"
        free = shutil.disk_usage(self.root).free
        ballast.write_bytes(b"\0" * max(0, free - leave))

    def empty(self) -> None:
        (self.root / "ballast").unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    """``disk(400_000)``: a file system of that size in memory; skipped where it cannot be mounted."""
    mounted: list[Path] = []

    def mount(size: int) -> Disk:
        root = tmp_path / f"disk{len(mounted)}"
        root.mkdir()
        call = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(root)]
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("mounting a small file system needs root")
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
        mounted.append(root)
        return Disk(root)

    yield mount
    for root in mounted:
        subprocess.run(["umount", "--lazy", str(root)], check=True)


def names(root: Path) -> list[str]:
    """Files that are not hidden, without locks and ballast."""
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != "ballast")
    return sorted(str(path.relative_to(root)) for path in files)


THEN = "one clear line, nothing half-written, goes on after space is freed"


def test_a_record(disk, injected) -> None:
    from bench.run import Result

    small = disk(100_000)
    path = small.root / "runs" / "key.json"
    result = Result({"val_acc": 50.0}, {"epochs": {"epoch": list(range(10_000))}})
    plan = record.Record("key", {"seed": 0}, "a run", result, {}, {})
    small.fill(leave=8_192)
    with pytest.raises(UserError, match=r"key\.json: no space left") as caught:
        record.write(path, plan)
    assert len(str(caught.value).splitlines()) == 1
    assert names(small.root) == [] and not list(small.root.rglob(".*"))
    small.empty()
    record.write(path, plan)
    assert record.read(path) == plan
    injected("disk full", "a record", THEN)


def test_a_checkpoint_stays_the_last_whole_one(disk, injected) -> None:
    import torch

    small = disk(400_000)
    path = small.root / "state.pt"
    checkpoint.save_state(path, {"step": 1, "weights": torch.ones(20_000)})
    small.fill(leave=40_000)
    with pytest.raises(UserError, match="no space left"):
        checkpoint.save_state(path, {"step": 2, "weights": torch.ones(40_000)})
    assert checkpoint.load_state(path)["step"] == 1
    assert names(small.root) == ["state.pt"] and len(list(small.root.iterdir())) == 2
    small.empty()
    checkpoint.save_state(path, {"step": 2, "weights": torch.ones(40_000)})
    assert checkpoint.load_state(path)["step"] == 2
    injected("disk full", "a checkpoint", THEN)


def test_weights(disk, injected) -> None:
    import torch

    small = disk(400_000)
    small.fill(leave=40_000)
    with pytest.raises(UserError, match="no space left"):
        checkpoint.save_tensors(small.root / "weights.safetensors", {"w": torch.ones(40_000)})
    assert names(small.root) == [] and len(list(small.root.iterdir())) == 1
    injected("disk full", "weights", THEN)


def test_a_shard(disk, injected) -> None:
    from bench.data import shards

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
    injected("disk full", "a shard of tokens", THEN)


def test_a_data_file(disk, injected, tmp_path: Path) -> None:
    """An archive that was put into the data folder, which has no room for its content."""
    packed = gzip.compress(os.urandom(150_000))
    catalogue = tmp_path / "catalogue.yaml"
    download = {"name": "file.gz", "bytes": len(packed), "checksum": f"sha256:{hashlib.sha256(packed).hexdigest()}"}
    source = {"files": {"file": "any"}, "downloads": [download | {"unpack": "gzip", "urls": ["http://127.0.0.1:9/"]}]}
    catalogue.write_text(json.dumps({"one": {"title": "One file", "home": "http://127.0.0.1:9/"} | source}))
    small = disk(400_000)
    (small.root / "file.gz").write_bytes(packed)
    small.fill(leave=50_000)
    with pytest.raises(UserError, match="no space left"):
        fetch.ensure("one", small.root, catalogue=catalogue)
    assert not (small.root / "file").exists() and not (small.root / ".fetch").exists()
    small.empty()
    assert fetch.ensure("one", small.root, catalogue=catalogue)[0].stat().st_size == 150_000
    injected("disk full", "an unpacked data file", THEN)


@pytest.mark.slow
@pytest.mark.parametrize("leave", [0, 40_000, 90_000])
def test_runs(leave: int, disk, bench, invented: Path, tmp_path: Path, injected) -> None:
    """The whole command: whatever is finished stays, the rest is trained when there is room."""
    small = disk(1_500_000)
    small.fill(leave)
    where = {"BENCH_RESULTS": str(small.root / "results"), "BENCH_CHECKPOINT_SECONDS": "0"}
    answer = bench("run", "--scale", str(invented), **where)
    assert answer.returncode in (1, 2), answer.stderr
    assert "no space left" in answer.stderr and "Traceback" not in answer.stderr
    finished = {name: path.read_bytes() for name, path in records(small.root).items()}
    for path in records(small.root).values():
        record.read(path)
    small.empty()
    answer = bench("run", "--scale", str(invented), **where)
    assert answer.returncode == 0, answer.stderr
    assert len(records(small.root)) == 15
    lost = sum(records(small.root)[name].read_bytes() != content for name, content in finished.items())
    assert lost == 0
    injected("disk full", "invented runs", THEN, lost=lost)


def records(root: Path) -> dict[str, Path]:
    return {path.name: path for path in (root / "results" / "toy" / "runs").glob("*.json")}


@pytest.mark.slow
def test_figures_and_tables(disk, bench, invented: Path, injected) -> None:
    small = disk(2_000_000)
    where = {"BENCH_RESULTS": str(small.root / "results")}
    for step in ("run", "collect"):
        assert bench(step, "--scale", str(invented), **where).returncode == 0
    small.fill(leave=6_000)
    answer = bench("draw", "--scale", str(invented), "--exhibits", "invented/curve", **where)
    assert answer.returncode == 2, answer.stderr
    assert "no space left" in answer.stderr and len(answer.stderr.splitlines()) == 1
    drawn = small.root / "results" / "toy" / "exhibits" / "invented"
    assert not list(drawn.glob("curve.p*")) and not list(drawn.glob(".*")), "no half of a figure"
    small.empty()
    answer = bench("draw", "--scale", str(invented), "--exhibits", "invented/curve", **where)
    assert answer.returncode == 0, answer.stderr
    assert (drawn / "curve.pdf").read_bytes().rstrip().endswith(b"%%EOF")
    injected("disk full", "a figure", THEN)
