"""Plans that know the machine: device files, driver, the CUDA that torch needs, and what a cluster's profile offers."""

from __future__ import annotations

import types
from pathlib import Path

import pytest
import yaml

from bench import config
from bench.cli import doctor
from bench.errors import UserError
from bench.report import plan_text
from bench.workflow import devices, execute, jobs, plan, reproduce

DRIVER = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs)\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``machine("nvidia0", driver="580.65.06", cuda="13.0")``: what this machine pretends to have."""
    for name in ("BENCH_GPUS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)

    def pretend(*files: str, driver: str | None = None, cuda: str | None = "13.0", visible: str | None = None) -> None:
        folder = tmp_path / "dev"
        folder.mkdir(exist_ok=True)
        for name in (*files, "nvidiactl", "nvidia-uvm"):
            (folder / name).touch()
        version = tmp_path / "version"
        version.unlink(missing_ok=True)
        if driver:
            version.write_text(DRIVER.format(driver))
        monkeypatch.setattr(devices, "DEVICES", folder)
        monkeypatch.setattr(devices, "DRIVER", version)
        monkeypatch.setattr(devices, "cuda_of_torch", lambda: cuda)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return pretend


def auto(scale: Path, **changes: object) -> config.Suite:
    return config.load(str(scale)).model_copy(update={"device": "auto", **changes})


@pytest.mark.parametrize(
    ("files", "visible", "names"),
    [
        ((), None, []),
        (("nvidia0", "nvidia1"), None, ["0", "1"]),
        (("nvidia2",), None, ["0"]),
        (("nvidia0",), "", []),
        (("nvidia0",), "-1", []),
        (("nvidia0", "nvidia1"), "1", ["1"]),
        (("nvidia0",), "GPU-8f6e", ["GPU-8f6e"]),
    ],
)
def test_gpus_are_counted_as_cuda_does(machine, files: tuple[str, ...], visible: str | None, names: list[str]) -> None:
    """A container may have been given the third GPU alone: CUDA calls it the first."""
    machine(*files, visible=visible)
    assert devices.visible() == names


def test_the_machine_decides_where_the_scale_says_auto(machine, invented: Path) -> None:
    machine()
    assert plan.make(auto(invented)).machine == "cpu"
    machine("nvidia2")
    made = plan.make(auto(invented))
    assert made.machine == "gpu" and {job.gpus for job in jobs.jobs_of(made)} == {1}
    assert plan.make(auto(invented, device="cpu")).machine == "cpu"


def test_a_login_node_plans_for_the_gpus_of_the_cluster(machine, invented: Path) -> None:
    machine()
    count = reproduce.gpus_of_node("slurm")
    assert count is not None and count > 0 and reproduce.gpus_of_node("local") is None
    made = plan.make(auto(invented), gpus_of_node=count)
    assert made.machine == "gpu" and {job.gpus for job in jobs.jobs_of(made)} == {1}
    assert plan.make(auto(invented), gpus_of_node=0).machine == "cpu"
    with pytest.raises(UserError, match=r"have no GPU: see its machine\.yaml"):
        plan.make(auto(invented, device="cuda"), gpus_of_node=0)


@pytest.mark.parametrize("content", [None, "gpus_per_node: yes", "gpus_per_node: -1", "gpus: 4", "4"])
def test_a_cluster_that_does_not_say_what_it_has(content: str | None, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"executor": "slurm"}))
    if content is not None:
        (tmp_path / "machine.yaml").write_text(content)
    with pytest.raises(UserError, match=r"machine\.yaml: .*gpus_per_node"):
        reproduce.gpus_of_node(str(tmp_path))


def test_more_gpus_for_a_job_than_a_node_has(machine, invented: Path) -> None:
    machine()
    made = plan.make(auto(invented, gpus_per_job=8), gpus_of_node=4)
    with pytest.raises(UserError, match="gpus_per_job: 8, and a machine has 4 GPUs"):
        plan.check_budget(made, 1e9, 10**15)


OLD = "the driver is too old: install 580 or newer"


@pytest.mark.parametrize(
    ("files", "driver", "cuda", "visible", "cause"),
    [
        ((), None, "13.0", None, "no GPU is visible here"),
        (("nvidia0",), "535.129.03", "13.0", None, OLD),
        (("nvidia0",), "535.129.03", "12.8", None, ""),
        (("nvidia0",), None, "13.0", None, "no NVIDIA driver loaded"),
        (("nvidia0",), "580.65.06", None, None, "a torch that is built for CUDA"),
        (("nvidia0",), "580.65.06", "13.0", "", "CUDA_VISIBLE_DEVICES is empty"),
        (("nvidia0", "nvidia1"), "580.65.06", "13.0", "0,5", "CUDA_VISIBLE_DEVICES names GPU 5"),
        (("nvidia2",), "580.65.06", "13.0", "2", "CUDA_VISIBLE_DEVICES names GPU 2"),
        (("nvidia0",), "580.65.06", "13.0", None, ""),
    ],
)
def test_why_torch_finds_none(
    machine, files: tuple[str, ...], driver: str | None, cuda: str | None, visible: str | None, cause: str
) -> None:
    """One line with device files, driver and the CUDA that torch needs, and what to do where they say it."""
    machine(*files, driver=driver, cuda=cuda, visible=visible)
    line = devices.explanation()
    assert "\n" not in line and line.startswith("device files: ")
    assert (driver or "driver: none") in line and (f"CUDA {cuda}" if cuda else "without CUDA") in line
    assert all(name in line for name in files)
    assert cause in line and ("->" in line) == bool(cause)


def test_the_installed_torch_says_its_cuda() -> None:
    import torch

    assert devices.cuda_of_torch() == torch.version.cuda


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_planned_gpu_that_torch_does_not_find_ends_the_call(
    machine, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    import torch

    machine("nvidia0", driver="535.129.03")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=OLD) as raised:
        execute.device_of(wanted, planned="gpu")
    assert "\n" not in str(raised.value)
    assert execute.device_of("cpu", planned="gpu").type == "cpu"
    assert execute.device_of("auto").type == "cpu", "nothing was planned for a GPU"


def test_runs_of_auto_stop_where_the_driver_is_too_old(
    machine, invented: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing trains on cores in silence, and nothing is written."""
    import torch

    machine("nvidia0", driver="535.129.03")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    made = plan.make(auto(invented))
    with pytest.raises(UserError, match="a GPU is planned for and torch finds no GPU"):
        execute.run_all(made, made.to_train())
    assert not list(made.layout.runs.glob("*"))


@pytest.mark.parametrize(("files", "driver", "level"), [((), None, "note"), (("nvidia0",), "535.129.03", "missing")])
def test_doctor_tells_files_driver_and_cuda(
    machine, files: tuple[str, ...], driver: str | None, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that cannot be used is worse than none."""
    import torch

    machine(*files, driver=driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lines = {line.split()[1]: line for line in (check.line() for check in doctor.devices())}
    assert lines["GPU"].startswith(level) and "CUDA 13.0" in lines["GPU"] and (driver or "driver: none") in lines["GPU"]


def test_doctor_names_what_shares_a_gpu(machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without NVIDIA's MPS several processes take turns on a GPU."""
    import torch

    machine("nvidia0", driver="580.65.06")
    properties = types.SimpleNamespace(name="H200", total_memory=140 * 2**30)
    for name, answer in {
        "is_available": True,
        "device_count": 1,
        "get_device_properties": properties,
        "is_bf16_supported": True,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, answer=answer, **kwargs: answer)
    monkeypatch.setattr(devices, "mps_runs", lambda: False)
    text = "\n".join(check.line() for check in doctor.devices())
    assert "H200, 140 GiB, bf16" in text and "580.65.06" in text and "take turns" in text
    monkeypatch.setattr(devices, "mps_runs", lambda: True)
    assert "take turns" not in "\n".join(check.line() for check in doctor.devices())


def test_assumed_rates_are_repeated_by_the_plan(invented: Path) -> None:
    for kind, rates in plan.throughput().items():
        for machine, rate in rates.items():
            assert (rate["measured"] is None) == ("assumed" in rate), f"{kind} on {machine}"
    lines = plan_text.assumed_rates(["rewarm"])
    assert any("40 % of the bf16 peak" in line for line in lines)
    assert plan_text.assumed_rates([]) == []
    assert plan.throughput()["default"]["gpu"]["assumed"] in plan_text.as_text(plan.make(config.load(str(invented))))
