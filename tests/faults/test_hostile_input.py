"""Files and values from elsewhere cannot run code or write where they should not."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import pytest

from bench import checkpoint, config
from bench.cli.main import main
from bench.errors import UserError
from bench.paths import Layout
from bench.workflow import execute, pack
from bench.workflow import plan as planning


class Hostile:
    """Unpickling it writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


@pytest.fixture
def owned(tmp_path: Path) -> Path:
    """A file that must never appear."""
    return tmp_path / "owned"


def test_a_state_that_holds_code(invented: Path, owned: Path) -> None:
    """A resume state, pickled whole or inside torch's own format: refused by name, and the run is not a result."""
    import torch

    plan = planning.make(config.load(str(invented)))
    run = plan.to_train()[0]
    state = plan.layout.scratch / run.key / "state.pt"
    state.parent.mkdir(parents=True)
    packed = io.BytesIO()
    torch.save({"step": Hostile(owned)}, packed)
    for content in (pickle.dumps(Hostile(owned)), packed.getvalue()):
        state.write_bytes(content)
        tally = execute.run_all(plan, [run], tell=lambda text: None)
        assert "not a readable checkpoint" in tally.failed[run.key]
        assert not owned.exists() and not plan.layout.record(run.key).exists()


def test_weights_that_hold_code(invented: Path, owned: Path) -> None:
    plan = planning.make(config.load(str(invented)))
    runs = plan.to_train()
    first = [run for run in runs if run.spec.parent_spec is None]
    execute.run_all(plan, first, tell=lambda text: None)
    weights = plan.layout.artefact(first[0].key, "weights")
    weights.write_bytes(pickle.dumps(Hostile(owned)))
    tally = execute.run_all(plan, runs, tell=lambda text: None)
    assert any("its record says" in why for why in tally.failed.values())
    assert not owned.exists()


def test_a_data_file_that_holds_code(tmp_path: Path, owned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checksum refuses it before it is read; and even a file with the right checksum cannot run code."""
    from bench.data import images

    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps(Hostile(owned)))
    with pytest.raises(UserError, match="altered or cut short"):
        images.load("cifar10", tmp_path / "data")
    monkeypatch.setattr(images.fetch, "ensure", lambda name, root: sorted(folder.iterdir()))
    with pytest.raises(UserError, match=r"not a CIFAR batch \(posix\.system is not allowed in a data file\)"):
        images.load("cifar10", tmp_path / "data")
    assert not owned.exists()


def carried(folder: Path, *members: tuple[str, bytes | None, str]) -> None:
    """What `unpack` reads: an archive with right checksums and members of our choice (name, content, link target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content, target in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, target
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    folder.mkdir()
    (folder / "toy.tar.000").write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    (folder / "toy.parts.json").write_text(json.dumps({"scale": "toy", "parts": {"toy.tar.000": digest}}))


@pytest.mark.parametrize(
    "member",
    [
        ("../../owned", b"x", ""),
        ("runs/link", None, "/etc/passwd"),
        ("runs/link", None, "../../../owned"),
    ],
)
def test_carried_state_that_reaches_out(member, tmp_path: Path, results: Path, owned: Path) -> None:
    layout = Layout.of("toy")
    carried(tmp_path / "carried", member)
    with pytest.raises(UserError, match="not an archive of this suite"):
        pack.unpack(layout, tmp_path / "carried")
    assert not list(tmp_path.rglob("owned*"))
    assert not list(layout.root.rglob("link"))


def test_an_absolute_path_in_carried_state_is_ignored(tmp_path: Path, results: Path) -> None:
    carried(tmp_path / "carried", ("/tmp/owned-by-unpack", b"x", ""))
    assert pack.unpack(Layout.of("toy"), tmp_path / "carried") == 0
    assert not Path("/tmp/owned-by-unpack").exists()


def test_carried_records_are_read_before_they_count(tmp_path: Path, results: Path) -> None:
    layout = Layout.of("toy")
    carried(tmp_path / "carried", ("runs/plan-up.json", b'{"metrics": {}}', ""))
    with pytest.raises(UserError, match="not a record"):
        pack.unpack(layout, tmp_path / "carried")
    assert not list(layout.root.rglob("*.json"))


@pytest.mark.slow
def test_names_with_shell_characters_stay_names(bench, invented: Path, tmp_path: Path) -> None:
    """The scale file, the results folder and the interpreter's path reach the shell of every rule: none is run."""
    odd = tmp_path / "a b; touch owned; $(touch owned) `touch owned`"
    odd.mkdir()
    scale = odd / "toy & touch owned.yaml"
    scale.write_text(invented.read_text())
    answer = bench("reproduce", "--scale", str(scale), BENCH_RESULTS=str(odd / "results | touch owned"))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert (odd / "results | touch owned" / "toy" / "paper.pdf").exists()
    root = Path(__file__).resolve().parent.parent.parent
    assert not list(tmp_path.rglob("owned")) and not (root / "owned").exists()


@pytest.mark.parametrize(
    "text",
    [
        "scale: '$(touch owned)'",
        "scale: 'x; touch owned'",
        "scale: !!python/object/apply:os.system ['touch owned']",
        "scale: x\nexhibits: {'warmstart/table1; touch owned': {}}",
        "scale: x\nonly: ['$(touch owned)']",
    ],
)
def test_values_with_shell_characters_are_refused(text: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(text + "\n")
    assert main(["plan", "--scale", "./mine.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and not list(tmp_path.rglob("owned"))


def test_safetensors_cannot_hold_code(tmp_path: Path, owned: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(pickle.dumps(Hostile(owned)))
    with pytest.raises(UserError, match="not a readable safetensors file"):
        checkpoint.load_tensors(path)
    assert not owned.exists()
