"""What a record says of where it comes from is what happened."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import config, machine, record
from bench.run import Result
from bench.workflow import execute
from bench.workflow import plan as planning

ROOT = Path(__file__).resolve().parent.parent.parent
COMMIT = "import json; from bench import machine; print(json.dumps(machine.commit()))"


def git(folder: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def repository(folder: Path, *files: str) -> str:
    """Makes the folder a repository with some of its files committed; returns the commit."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet")
    git(folder, "add", "--force", *files)
    git(folder, "commit", "--quiet", "--message", "first")
    return git(folder, "rev-parse", "HEAD")


def copy(folder: Path) -> Path:
    """The modules that tell the commit, as a project of their own."""
    for name in ("__init__.py", "machine.py", "paths.py"):
        (folder / "bench").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "bench" / name, folder / "bench" / name)
    return folder


def commit_of(project: Path, **environment: str) -> dict[str, Any]:
    """What the project's own code says of its commit, called from elsewhere."""
    done = subprocess.run(
        [sys.executable, "-c", COMMIT],
        cwd=project.parent,
        env={**os.environ, **environment, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


UNKNOWN = {"commit": None, "clean": None}


def test_the_commit_of_its_own_repository(tmp_path: Path) -> None:
    project = copy(tmp_path / "suite")
    commit = repository(project, "bench")
    assert commit_of(project) == {"commit": commit, "clean": True}
    with (project / "bench" / "paths.py").open("a") as stream:
        stream.write("# edited\n")
    assert commit_of(project) == {"commit": commit, "clean": False}


def test_no_commit_without_a_repository(tmp_path: Path) -> None:
    assert commit_of(copy(tmp_path / "suite"), GIT_CEILING_DIRECTORIES=str(tmp_path)) == UNKNOWN


@pytest.mark.parametrize(
    ("where", "tracked"), [("vendor/suite", "other.txt"), (".", "other.txt"), ("vendor/suite", "vendor")]
)
def test_inside_another_repository_it_is_not_at_that_ones_commit(tmp_path: Path, where: str, tracked: str) -> None:
    """Neither is a copy that the other repository tracks."""
    outer = tmp_path / "outer"
    project = copy(outer / where)
    (outer / "other.txt").write_text("of another project\n")
    repository(outer, tracked)
    assert commit_of(project) == UNKNOWN


def test_variables_of_git_name_another_repository(tmp_path: Path) -> None:
    other, project = copy(tmp_path / "other"), copy(tmp_path / "suite")
    (other / "bench" / "paths.py").write_text("")
    repository(other, "bench")
    commit = repository(project, "bench")
    git_folder = other / ".git"
    named = {"GIT_DIR": git_folder, "GIT_WORK_TREE": other, "GIT_INDEX_FILE": git_folder / "index"}
    variables = {name: str(path) for name, path in named.items()}
    assert commit_of(project, **variables) == {"commit": commit, "clean": True}


@pytest.fixture
def recorded(invented: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """``recorded(train, runs=1)``: provenance of the first walks, whose trainer is replaced by `train`."""

    def call(train: Callable[..., Any] | None = None, *, runs: int = 1) -> list[dict[str, Any]]:
        plan = planning.make(config.load(str(invented)))
        from bench_extra.invented import walk

        if train is not None:
            monkeypatch.setattr(walk, "train", train)
        walks = [run for run in plan.to_train() if run.spec.parent_spec is None][:runs]
        tally = execute.run_all(plan, walks, tell=lambda text: None)
        assert not tally.failed
        return [record.read(plan.layout.record(run.key)).provenance for run in walks]

    return call


def kept(spec: Any, context: Any) -> Result:
    import torch

    context.keep("weights", {"position": torch.zeros(3)})
    return Result({"position": 1.0})


def test_what_a_record_says(recorded) -> None:
    (provenance,) = recorded()
    assert provenance["processes"] == 1 and provenance["threads"] == 1 and provenance["device"] == "cpu"
    assert provenance["precision"] == "float32" and provenance["tf32"] is False and provenance["resumed"] is False
    assert provenance["commit"] == machine.commit()["commit"]
    assert not {"company"} & set(provenance)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="not Linux")
def test_the_peak_of_memory_is_the_runs_own(recorded) -> None:
    import torch

    def train(spec: Any, context: Any) -> Result:
        if spec.seed == 0:
            torch.ones(100_000_000)  # 400 MB, freed at once
        return kept(spec, context)

    large, small = (run["peak_memory_mb"] for run in recorded(train, runs=2))
    assert large > small + 300


def test_the_peak_on_a_gpu_is_the_runs_own(recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a pretended device, whose counter only rises until it is reset."""
    import torch

    peak = {"bytes": 0}
    monkeypatch.setattr(execute, "device_of", lambda *asked, **planned: SimpleNamespace(type="cuda", index=0))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peak.update(bytes=0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak["bytes"])

    def train(spec: Any, context: Any) -> Result:
        peak["bytes"] = max(peak["bytes"], (3 - spec.seed) * 2**30)
        return kept(spec, context)

    assert [run["peak_memory_mb"] for run in recorded(train, runs=3)] == [3072, 2048, 1024]


@pytest.mark.parametrize(
    ("allowed", "device", "supported", "used"),
    [
        (True, "cuda", True, True),
        (False, "cuda", True, False),
        (True, "cpu", True, False),
        (True, "cuda", False, False),
    ],
)
def test_tf32_is_what_was_used(
    monkeypatch: pytest.MonkeyPatch, allowed: bool, device: str, supported: bool, used: bool
) -> None:
    import torch

    from bench.certified.spec import Certified, Verification

    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: supported)
    trained = Certified.model_validate({"seed": 0, "dataset": "synthetic_certified", "tf32": allowed})
    where: Any = SimpleNamespace(type=device)
    assert execute._used_tf32(planning.Planned("k", trained), where) is used
    # A verification never uses it, whatever its parent did.
    verification = Verification(seed=0, parent=trained)
    assert execute._used_tf32(planning.Planned("k", verification), where) is False


def test_the_precision_of_a_verification_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.certified.spec import Certified, Verification

    trained = Certified.model_validate({"seed": 0, "dataset": "synthetic_certified"})
    for dtype in ("float32", "float64"):
        run = planning.Planned("a-b", Verification.model_validate({"seed": 0, "parent": trained, "dtype": dtype}))
        context: Any = SimpleNamespace(device=SimpleNamespace(type="cpu"), threads=1, data_checksums={}, resumed=False)
        assert execute._provenance(run, context, 0.0, machine.usage())["precision"] == dtype


@pytest.mark.parametrize("text", ["abc", "-1", "nan", "1 s"])
def test_a_checkpoint_interval_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", text)
    with pytest.raises(execute.UserError, match=f"BENCH_CHECKPOINT_SECONDS={text}"):
        execute.checkpoint_seconds()


@pytest.mark.parametrize(("text", "seconds"), [("", 60.0), ("0", 0.0), ("2.5", 2.5)])
def test_checkpoint_intervals(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", text)
    assert execute.checkpoint_seconds() == seconds
