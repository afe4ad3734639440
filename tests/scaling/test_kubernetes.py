"""The job that the profile for Kubernetes would submit, field by field; no cluster has seen it.

The plugins are not in requirements.lock. Where they are installed, Snakemake and the plugin make the job, and a pretended
API server takes it; elsewhere the profile alone is checked. Not tested: that pods start, mount, and finish.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench import config
from bench.workflow import plan

ROOT = Path(__file__).resolve().parent.parent.parent
PROFILES = ROOT / "configs" / "profiles"

PRETENDED = """
import json, os
import kubernetes.config
from kubernetes import client

kubernetes.config.load_kube_config = lambda *a, **k: None
client.CoreV1Api.create_namespaced_secret = lambda self, namespace, body: None
client.CoreV1Api.delete_namespaced_secret = lambda self, *a, **k: None


def create(self, namespace, body):
    content = client.ApiClient().sanitize_for_serialization(body)
    with open(os.environ["PRETENDED_JOBS"], "a") as stream:
        stream.write(json.dumps({"namespace": namespace, "body": content}) + "\\n")
    raise client.rest.ApiException(status=403, reason="pretended")


client.BatchV1Api.create_namespaced_job = create
"""


def profile(name: str) -> dict:
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


@pytest.mark.parametrize("name", ["local", "slurm", "kubernetes"])
def test_every_setting_of_a_profile_has_a_comment_above_it(name: str) -> None:
    lines = (PROFILES / name / "config.yaml").read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        if re.match(r"\s*[a-z]", line):
            assert before.lstrip().startswith("#"), f"{name}: {line}"


@pytest.mark.parametrize("name", ["local", "slurm", "kubernetes"])
def test_what_all_profiles_share(name: str) -> None:
    content = profile(name)
    shared = {
        "keep-going": True,
        "rerun-incomplete": True,
        "nolock": True,
        "rerun-triggers": ["mtime", "params"],
    }
    assert {key: content[key] for key in shared} == shared
    assert content["latency-wait"] >= 10, "files that another node wrote may be late"


def test_the_profile_names_image_volume_and_storage() -> None:
    content = profile("kubernetes")
    assert content["executor"] == "kubernetes"
    assert content["default-storage-provider"] == "fs"
    (volume,) = content["kubernetes-persistent-volumes"]
    assert content["default-storage-prefix"].startswith(volume.split(":")[1])
    assert set(content["envvars"]) == {"BENCH_RESULTS", "BENCH_DATA"}
    assert content["default-resources"]["scale"] == 0, "GPUs need limits"


needs_plugins = pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None
        for name in ("snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs")
    )
    or shutil.which("rsync") is None,
    reason="the plugins for Kubernetes are not installed (see configs/profiles/kubernetes/config.yaml)",
)


@needs_plugins
@pytest.mark.slow
@pytest.mark.parametrize(("device", "wanted"), [("cpu", 0), ("cuda", 2)])
def test_the_job_that_is_submitted(device: str, wanted: int, invented: Path, tmp_path: Path, monkeypatch) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    scale = tmp_path / "toy.yaml"
    content = yaml.safe_load(invented.read_text())
    scale.write_text(yaml.safe_dump({**content, "device": device, "gpus_per_job": 2, "threads": 4}))
    own = profile("kubernetes") | {
        "kubernetes-persistent-volumes": [f"warmbench:{volume}"],
        "default-storage-prefix": str(volume / "workflow"),
        "retries": 0,
    }
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "config.yaml").write_text(yaml.safe_dump(own))
    (tmp_path / "pretended").mkdir()
    (tmp_path / "pretended" / "sitecustomize.py").write_text(PRETENDED)
    monkeypatch.setenv("BENCH_RESULTS", str(volume / "results"))
    from bench.run import RunSpec

    monkeypatch.setattr(RunSpec, "gpus", lambda self, offered: offered)
    made = plan.make(config.load(str(scale)), source=str(scale))
    plan.freeze(made)
    (batch,) = json.loads(made.layout.plan.read_text())["batches"]
    assert batch["gpus"] == wanted
    from bench.workflow import reproduce

    call = reproduce.command_line(made, str(tmp_path / "profile"))
    assert not any(part.startswith("python=") for part in call), "the image has a Python of its own"
    done = subprocess.run(
        [sys.executable, "-m", *call],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": f"{tmp_path / 'pretended'}:{os.environ.get('PYTHONPATH', '')}",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PRETENDED_JOBS": str(tmp_path / "jobs.jsonl"),
            "BENCH_DATA": str(volume / "data"),
        },
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (tmp_path / "jobs.jsonl").exists(), done.stdout[-3000:] + done.stderr[-3000:]
    (submitted,) = [json.loads(line) for line in (tmp_path / "jobs.jsonl").read_text().splitlines()]
    assert submitted["namespace"] == "default"
    job = submitted["body"]
    assert job["spec"]["backoffLimit"] == 0, "retries are Snakemake's"
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert container["image"] == "images.example.com/warmbench:0.1.0"
    assert container["command"] == ["/bin/sh"]
    (_, command) = container["args"]
    assert f"run:batch={batch['name']}" in command and "--mode" in command
    assert f"plan={made.layout.plan}" in command
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["warmbench"] == str(volume)
    claims = {one["name"]: one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["volumes"]}
    assert claims["warmbench"] == "warmbench"
    assert {variable["name"] for variable in container["env"]} == {"BENCH_RESULTS", "BENCH_DATA"}
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert requests["memory"] == limits["memory"] == f"{batch['memory_mb']}M"
    assert requests["cpu"] == "3800m" and limits["cpu"] == "4000m"
    assert requests["nvidia.com/gpu"] == limits["nvidia.com/gpu"] == str(wanted)
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"


@needs_plugins
def test_the_plugin_knows_the_profiles_settings() -> None:
    import snakemake_executor_plugin_kubernetes as plugin

    fields = {name for name in plugin.ExecutorSettings.__dataclass_fields__}
    ours = {
        key.removeprefix("kubernetes-").replace("-", "_") for key in profile("kubernetes") if key.startswith("kube")
    }
    assert ours <= fields
