"""GPUs of one machine, pretended: one job on each by lock files, several where the scale says so."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from bench import config
from bench.errors import UserError
from bench.run import RunSpec
from bench.workflow import gpus, plan, planfile
from bench.workflow.jobs import gpus_for, offered_to

ROOT = Path(__file__).resolve().parent.parent.parent


def test_what_jobs_may_use() -> None:
    assert gpus.visible({"BENCH_GPUS": "0, 1,GPU-abc", "CUDA_VISIBLE_DEVICES": "7"}) == ["0", "1", "GPU-abc"]
    assert gpus.visible({"CUDA_VISIBLE_DEVICES": "2,3"}) == ["2", "3"]
    assert gpus.visible({"CUDA_VISIBLE_DEVICES": ""}) == gpus.visible({"CUDA_VISIBLE_DEVICES": "-1"}) == []


def test_one_job_on_each_gpu_and_the_next_waits(tmp_path: Path) -> None:
    messages: list[str] = []
    waiting = threading.Event()
    devices: list[str] = []

    def tell(text: str) -> None:
        messages.append(text)
        waiting.set()

    def job() -> None:
        with gpus.claim(1, devices=["0", "1"], folder=tmp_path, tell=tell) as (device,):
            with (tmp_path / f"busy {device}").open("x"):  # which fails where another job has it
                devices.append(device)
                assert waiting.wait(timeout=60)
            (tmp_path / f"busy {device}").unlink()

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(job) for _ in range(4)]:
            done.result()
    assert len(devices) == 4 and set(devices[:2]) == {"0", "1"}
    assert messages[0] == "waiting for 1 of the GPUs 0, 1: other jobs have them"


def test_several_small_jobs_share_a_gpu_and_spread_first(tmp_path: Path) -> None:
    devices = ["0", "1"]
    with (
        gpus.claim(1, devices=devices, jobs_per_gpu=2, folder=tmp_path) as first,
        gpus.claim(1, devices=devices, jobs_per_gpu=2, folder=tmp_path) as second,
        gpus.claim(1, devices=devices, jobs_per_gpu=2, folder=tmp_path) as third,
        gpus.claim(1, devices=devices, jobs_per_gpu=2, folder=tmp_path) as fourth,
    ):
        assert (first, second, third, fourth) == (("0",), ("1",), ("0",), ("1",))


def test_a_job_of_several_gpus_gets_all_or_waits(tmp_path: Path) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def wide() -> None:
        with gpus.claim(2, devices=["0", "1"], folder=tmp_path, tell=lambda text: waiting.set()) as taken:
            order.append(",".join(taken))

    with ThreadPoolExecutor() as pool, gpus.claim(1, devices=["0", "1"], folder=tmp_path):
        pool.submit(wide)
        assert waiting.wait(timeout=60)
        # While it waits it holds none: a small job finds the other GPU free.
        with gpus.claim(1, devices=["0", "1"], folder=tmp_path) as small:
            order.append(f"small {small[0]}")
    assert order == ["small 1", "0,1"]
    with (
        pytest.raises(ValueError, match="3 GPUs are asked for, this machine offers 2"),
        gpus.claim(3, devices=["0", "1"], folder=tmp_path),
    ):
        pass


def test_a_killed_job_frees_its_gpu(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from bench.workflow import gpus\n"
        "with gpus.claim(1, devices=['0'], folder=Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with gpus.claim(1, devices=["0"], folder=tmp_path) as taken:
        assert taken == ("0",)


def test_a_job_sees_only_what_it_has_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(gpus, "folder_of_locks", lambda: tmp_path)
    for name in gpus.ASSIGNED_BY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("BENCH_GPUS", "4,5")
    with gpus.assigned(1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"
        with gpus.assigned(1):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    # A cluster has chosen already.
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with gpus.assigned(1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


class Wide(RunSpec):
    """A run that can make use of as many GPUs as divide its batch."""

    batch: int = 8

    def gpus(self, offered: int) -> int:
        return max((count for count in range(1, offered + 1) if self.batch % count == 0), default=0)


@pytest.mark.parametrize(("offered", "expected"), [(1, 1), (2, 2), (3, 2), (8, 8)])
def test_a_run_takes_what_it_can_use(
    invented: Path, offered: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_GPUS", "0,1,2,3,4,5,6,7")
    suite = config.load(str(invented)).model_copy(update={"device": "cuda", "gpus_per_job": offered})
    assert gpus_for([Wide(seed=0)], offered_to(plan.make(suite))) == expected
    assert gpus_for([Wide(seed=0)], offered_to(plan.make(suite.model_copy(update={"device": "cpu"})))) == 0


def test_the_plan_gives_each_job_its_gpus(invented: Path) -> None:
    suite = config.load(str(invented))
    planned = plan.make(suite.model_copy(update={"device": "cuda"}))
    planfile.freeze(planned)
    assert {job["gpus"] for job in json.loads(planned.layout.plan.read_text())["jobs"]} == {1}
    planned = plan.make(suite)
    planfile.freeze(planned)
    assert {job["gpus"] for job in json.loads(planned.layout.plan.read_text())["jobs"]} == {0}


def test_snakemake_is_told_how_many_gpu_jobs_fit(invented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.workflow import reproduce

    monkeypatch.setenv("BENCH_GPUS", "0,1")
    suite = config.load(str(invented)).model_copy(update={"jobs_per_gpu": 3})
    planned = plan.make(suite)
    assert reproduce.command_line(planned, "local", 1)[-3:] == ["--resources", "machine=1000", "gpu=6"]
    assert "--resources" not in reproduce.command_line(planned, "slurm", 1), "a cluster counts its own"
    monkeypatch.setenv("BENCH_GPUS", "")
    assert reproduce.command_line(planned, "local", 1)[-2:] == ["--resources", "machine=1000"]


@pytest.mark.parametrize(
    ("executor", "how"), [("slurm", "make slurm"), ("torque-pbs", "pip install snakemake-executor-plugin-torque-pbs")]
)
def test_an_executor_that_is_not_installed_is_named(
    executor: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.workflow import reproduce

    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text(yaml.safe_dump({"executor": executor}))
    monkeypatch.setattr(reproduce, "find_spec", lambda name: None)
    reproduce.check_executor("local")
    with pytest.raises(UserError, match=f"executor {executor} is not installed: {how}$"):
        reproduce.check_executor(str(profile))


def test_several_gpus_go_through_torchrun(invented: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A job whose runs use two GPUs starts one process for each, on the GPUs that were claimed."""
    import os

    from bench import __main__

    scale = tmp_path / "toy.yaml"
    content = yaml.safe_load(invented.read_text())
    scale.write_text(yaml.safe_dump({**content, "device": "cuda", "gpus_per_job": 2}))
    monkeypatch.setenv("BENCH_GPUS", "0,1,2")
    monkeypatch.setattr(gpus, "folder_of_locks", lambda: tmp_path)
    for name in (*gpus.ASSIGNED_BY, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(RunSpec, "gpus", lambda self, offered: offered)
    planned = plan.make(config.load(str(scale)), source=str(scale))
    planfile.freeze(planned)
    (job,) = json.loads(planned.layout.plan.read_text())["jobs"]
    assert job["gpus"] == 2
    seen: list[tuple[int, list[str], str]] = []

    def started(processes: int, arguments: list[str]) -> int:
        seen.append((processes, list(arguments), os.environ["CUDA_VISIBLE_DEVICES"]))
        return 0

    monkeypatch.setattr(gpus, "run_on", started)
    call = ["run", "--scale", str(scale), "--job", job["name"]]
    monkeypatch.setattr(sys, "argv", ["bench", *call])
    assert __main__.main(call) == 0
    assert seen == [(2, call, "0,1")]
    assert gpus.torchrun(2, call)[1:] == [
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "bench", *call,
    ]  # fmt: skip
