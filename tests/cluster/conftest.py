"""A Slurm cluster of one node on this machine: munge, the controller and a node's daemon, for as long as a test lasts."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGURATION = Path("/etc/slurm/slurm.conf")
"""Steps of a job look here, since the plugin keeps no ``SLURM_CONF`` in their environment; the test puts links there."""
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
PACKAGES = ("slurm-wlm", "munge")
PLUGIN = "snakemake_executor_plugin_slurm"


def _missing() -> list[str]:
    daemons = [name for name in DAEMONS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    importlib.invalidate_caches()
    return daemons if importlib.util.find_spec(PLUGIN) else [*daemons, PLUGIN]


def _install() -> str:
    """Installs Debian's packages and Snakemake's plugin when the test was asked for by the marker `cluster`.

    Returns why that cannot be done, or ''.
    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"needs {', '.join(PACKAGES)}, which root could install on Debian"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for call in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES],
        ["make", "slurm"],
    ):
        done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            return f"{' '.join(call)} failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no reason'}"
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


SLURM_CONF = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
MinJobAge=300
KillWait=5
OverTimeLimit=0
SchedulerParameters=batch_sched_delay=0,sched_interval=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=1440 State=UP
"""


@dataclass
class Cluster:
    """A running cluster.

    Attributes:
        folder: of its files.
        variables: what clients need to find it.
    """

    folder: Path
    variables: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.variables}

    def run(self, *call: str) -> str:
        done = subprocess.run(call, env=self.environment, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{call}: {done.stderr}"
        return done.stdout

    def jobs(self, states: str = "RUNNING") -> list[str]:
        return self.run("squeue", "--noheader", "--format=%i", f"--states={states}").split()

    def wait_for(self, condition: Callable[[], object], seconds: float, what: str, more=lambda: "") -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"no {what} within {seconds:.0f} s\n{more()}\n{self.log()}"
            time.sleep(0.3)

    def log(self) -> str:
        return "\n".join((self.folder / f"{name}.log").read_text()[-3000:] for name in ("slurmctld", "slurmd"))

    def profile(self, into: Path, **changes: object) -> Path:
        """The project's own profile with what a test cluster without accounting needs, and with a test's changes."""
        content = yaml.safe_load((ROOT / "configs" / "profiles" / "slurm" / "config.yaml").read_text())
        content |= {
            "slurm-status-command": "squeue",
            "slurm-init-seconds-before-status-checks": 3,
            "seconds-between-status-checks": 2,
            "slurm-logdir": str(into / "slurm_logs"),
            "latency-wait": 20,
        }
        content["default-resources"] |= {"slurm_account": "none", "slurm_partition": "main"}
        for name, value in changes.items():
            key = name.replace("_", "-")
            content[key] = {**content[key], **value} if isinstance(value, dict) and key in content else value
        into.mkdir(parents=True, exist_ok=True)
        (into / "config.yaml").write_text(yaml.safe_dump(content))
        (into / "machine.yaml").write_text("gpus_per_node: 2\n")
        return into


@contextlib.contextmanager
def _daemon(name: str, call: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{name}.out").open("wb") as output:
        process = subprocess.Popen(call, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _settle() -> tuple[int, int]:
    cpus = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return cpus, int(memory * 0.9)


@pytest.fixture(scope="session")
def slurm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster; a test that needs it is skipped, with the reason, where it cannot be had."""
    marks = request.config.getoption("-m") or ""
    asked = "cluster" in marks and "not cluster" not in marks
    if _missing():
        why = _install() if asked else "Slurm is not installed; `-m cluster` installs it where root can"
        if why or _missing():
            pytest.skip(why or f"still missing: {', '.join(_missing())}")
    if os.geteuid() != 0:
        pytest.skip("starts the daemons as root")
    links = [CONFIGURATION.with_name(name) for name in ("slurm.conf", "gres.conf")]
    for link in links:  # of a session of tests that was killed
        if link.is_symlink() and link.readlink().parent.parent.name.startswith("pytest-"):
            link.unlink()
    if CONFIGURATION.exists():
        pytest.skip(f"{CONFIGURATION} exists: this machine belongs to a cluster already")
    # Short, since the length of a socket's path is limited, and not writable by others, as munge demands.
    folder = Path(tmp_path_factory.mktemp("slurm"))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    cpus, memory = _settle()
    host = socket.gethostname().split(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(
        SLURM_CONF.format(
            folder=folder,
            host=host,
            cpus=cpus,
            memory=memory,
            controller_port=_free_port(),
            node_port=_free_port(),
        )
    )
    for number in range(2):  # pretended GPUs: devices like /dev/null
        os.mknod(folder / f"nvidia{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={folder}/nvidia[0-1]\n")
    variables = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
    }
    environment = {**os.environ, **variables}
    munge = [
        "munged",
        "--foreground",
        "--force",
        f"--socket={folder}/munge.socket",
        f"--key-file={folder}/munge.key",
        f"--pid-file={folder}/munged.pid",
        f"--log-file={folder}/munged.log",
        f"--seed-file={folder}/munged.seed",
        "--num-threads=1",
    ]
    with contextlib.ExitStack() as running:
        CONFIGURATION.parent.mkdir(exist_ok=True)
        for link in links:
            link.symlink_to(folder / link.name)
            running.callback(link.unlink)
        running.enter_context(_daemon("munged", munge, folder, environment))
        cluster = Cluster(folder, variables)
        cluster.wait_for(lambda: (folder / "munge.socket").exists(), 20, "munge")
        running.enter_context(_daemon("slurmctld", ["slurmctld", "-D", "-f", str(conf)], folder, environment))
        running.enter_context(_daemon("slurmd", ["slurmd", "-D", "-f", str(conf), "-N", host], folder, environment))

        def idle() -> bool:
            answer = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True)
            return answer.returncode == 0 and answer.stdout.strip() in ("idle", "mixed", "allocated")

        cluster.wait_for(idle, 60, "idle node")
        yield cluster
        subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True)
        time.sleep(1)
