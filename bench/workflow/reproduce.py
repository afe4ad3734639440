"""The whole way from data to PDF: freeze the plan, call Snakemake, and draw with gaps where something failed."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from bench import config, machine, paths, record
from bench.errors import UserError, closest
from bench.workflow import gpus, planfile, status, summary
from bench.workflow import plan as planning
from bench.workflow.plan import Plan

PROFILES = config.CONFIGS / "profiles"
MOST_LINES = 10
"""Of failed runs, and of errors, that are named at the end."""


def _profile(name: str) -> tuple[Path, str]:
    """The folder of a profile, by name or path, and the executor that it chooses."""
    import yaml

    folder = PROFILES / name if (PROFILES / name).is_dir() else Path(name)
    if not (folder / "config.yaml").is_file():
        known = [path.name for path in PROFILES.iterdir() if path.is_dir()]
        raise UserError(f"profile {name}: no {folder / 'config.yaml'}{closest(name, known)}")
    content = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) or {}
    return folder, content.get("executor", "local")


def gpus_of_node(profile: str) -> int | None:
    """GPUs of one node, by the ``machine.yaml`` of a profile; ``None`` for a profile that runs on this machine.

    Raises:
        UserError: the profile does not say it, or not as a number.
    """
    import yaml

    folder, executor = _profile(profile)
    if executor == "local":
        return None
    path = folder / "machine.yaml"
    if not path.is_file():
        raise UserError(f"{path}: missing; it says what a node of the cluster has, such as `gpus_per_node: 4`")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    count = content.get("gpus_per_node") if isinstance(content, dict) else None
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise UserError(f"{path}: gpus_per_node: expected a number of GPUs, 0 where nodes have none (found {count!r})")
    return count


def check_executor(profile: str) -> None:
    """Executors are plugins of Snakemake, and the environment has those of clusters on demand only.

    Raises:
        UserError: there is no such profile, or its executor is not installed.
    """
    _, executor = _profile(profile)
    if executor != "local" and find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}") is None:
        how = "make slurm" if executor == "slurm" else f"pip install snakemake-executor-plugin-{executor}"
        raise UserError(f"profile {profile}: Snakemake's plugin for the executor {executor} is not installed: {how}")


def check_folders(plan: Plan) -> None:
    """Snakemake keeps its state in the current folder, and reads braces in the names of files as wildcards.

    Raises:
        UserError: one of both is impossible.
    """
    if not machine.writable(Path.cwd()):
        raise UserError(
            f"{Path.cwd()}: not writable, and Snakemake keeps its state in the current folder; call "
            f"`{sys.executable} -m bench reproduce` from a folder of your own, with BENCH_RESULTS for the results"
        )
    if set("{}") & set(str(plan.layout.root)):
        raise UserError(
            f"{plan.layout.root}: Snakemake takes braces in a path for wildcards; set BENCH_RESULTS to a folder without"
        )


def command_line(plan: Plan, profile: str, jobs: int) -> list[str]:
    """The `snakemake` call, which can be pasted into a shell after `plan --freeze`, which makes this number of jobs."""
    folder, executor = _profile(profile)
    return [
        "snakemake",
        "--snakefile",
        os.path.relpath(paths.PROJECT / "Snakefile"),
        "--profile",
        os.path.relpath(folder),
        "--config",
        f"plan={plan.layout.plan}",
        "--max-jobs-per-timespan",
        job_rate(jobs),
        *(_local_resources(plan) if executor == "local" else []),  # a cluster counts and separates its jobs itself
    ]


def job_rate(jobs: int) -> str:
    """A limit on job starts that is never reached, over a time that grows with the number of jobs.

    Snakemake knows no plan without a limit. For each job that has finished it looks at all waiting jobs again once in
    that time, and it waits for that time when it ends: with one second, its default, a hundred finished jobs took a tenth
    of a core from training.
    """
    return f"100000/{max(1, jobs // 10)}s"


def _local_resources(plan: Plan) -> list[str]:
    """Number of GPU jobs that may run at once on this machine; and its whole, for jobs that must run alone."""
    devices = gpus.visible()
    jobs = [f"gpu={len(devices) * plan.suite.jobs_per_gpu}"] if devices else []
    return ["--resources", f"machine={planfile.WHOLE_MACHINE}", *jobs]


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[int]:
    """Holds the folder's lock. Snakemake inherits it, so that it outlives a killed call as long as its Snakemake does.

    Raises:
        UserError: another call is at work in the folder.
    """
    import fcntl

    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{root}: another `reproduce` is running in this folder; wait for it or stop it") from None
        yield descriptor
    finally:
        os.close(descriptor)


def environment() -> dict[str, str]:
    """Variables for Snakemake and its jobs.

    The rules call `python`: this one, whether or not its environment has been activated, and this project, from whatever
    folder. Snakemake reads its files by the locale.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    modules = os.pathsep.join([str(paths.PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PATH": path, "PYTHONPATH": modules, "PYTHONUTF8": "1"}


def _snakemake(call: Sequence[str], lock: int) -> int:
    """Runs Snakemake and returns its exit code, negative for a signal; an interrupt ends its jobs first."""
    process = subprocess.Popen([sys.executable, "-m", *call], pass_fds=(lock,), env=environment())

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # A terminal interrupts the whole group; from elsewhere only this process may have been told.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=3)
        _interrupt_tree(process)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt_tree(process: subprocess.Popen[bytes]) -> None:
    import psutil  # type: ignore[import-untyped]

    with contextlib.suppress(psutil.NoSuchProcess):
        tree = psutil.Process(process.pid)
        for member in (*tree.children(recursive=True), tree):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.wait(timeout=30)


def reproduce(
    scale: str,
    names: Sequence[str],
    *,
    profile: str = "local",
    budget: float | None = None,
    rerun: bool = False,
    dry_run: bool = False,
    tables_only: bool = False,
) -> int:
    """Trains, draws, judges and typesets a scale; returns 0 when nothing failed.

    Args:
        scale: name or path.
        names: exhibits or papers, all when empty.
        profile: name or folder of a Snakemake profile.
        budget: hours of machine time that are allowed.
        rerun: train runs of older code again, and repeat measurements of time that other work disturbed.
        dry_run: show what would be done.
        tables_only: train and collect, and draw nothing.

    Raises:
        UserError: wrong configuration, a profile whose executor is not installed, folders that Snakemake cannot use, too
            much work for the budget, or another call at work in the same folder.
    """
    check_executor(profile)
    suite = config.load(scale)
    if rerun:
        suite = suite.model_copy(update={"older_code": "retrain"})
    node = gpus_of_node(profile)
    plan = planning.make(suite, names, source=scale, gpus_of_node=node)
    check_folders(plan)
    for note in planning.notes(plan):
        print(f"note: {note}", file=sys.stderr)
    with _alone(plan.layout.root) as lock:
        if rerun and not dry_run and _drop_disturbed(plan):
            plan = planning.make(suite, names, source=scale, gpus_of_node=node)
        if not dry_run:
            planning.check_budget(plan, budget)
        jobs = len(planfile.frozen(planfile.freeze(plan))["jobs"])
        call = command_line(plan, profile, jobs)
        if tables_only:
            call = [call[0], *(str(plan.layout.tables / f"{name}.parquet") for name in plan.exhibits), *call[1:]]
        freeze = [sys.executable, "-m", "bench", "plan", "--scale", scale, *_named(names), "--freeze"]
        freeze += ["--profile", profile] if node is not None else []
        print(f"same as: {shlex.join(freeze)} && {shlex.join(call)}", flush=True)
        started, verdicts = time.time(), summary.verdicts(plan.layout)
        if not dry_run and not tables_only:
            print(f"exhibits that are done are on {plan.layout.root / 'index.html'} at any moment", flush=True)
        with contextlib.nullcontext() if dry_run else status.watched(plan):
            quiet = ["--quiet", "all"] if status.on_terminal() and not dry_run else []
            code = _snakemake([*call, *quiet, *(["--dry-run"] if dry_run else [])], lock)
        if dry_run or (tables_only and code >= 0):
            return code
        if code < 0:
            print(f"Snakemake was killed (signal {-code}); the same command goes on", file=sys.stderr)
            return 1
        if code != 0:
            return _after_failure(scale, names, plan, started)
        _browsable(call, plan)
        from bench.workflow import execute

        execute.prune(planning.make(suite, names, source=scale))
    print(summary.as_text(verdicts, summary.verdicts(plan.layout), plan.layout))
    return 0


def _drop_disturbed(plan: Plan) -> int:
    """Removes the records of measurements that were not alone on the machine, which no exhibit shows."""
    timed = [plan.layout.record(run.used) for run in plan.runs.values() if run.spec.whole_machine]
    disturbed = [path for path in timed if path.exists() and not record.read(path).alone]
    for path in disturbed:
        path.unlink()
    return len(disturbed)


def _named(names: Sequence[str]) -> list[str]:
    return ["--exhibits", *names] if names else []


def _errors(logs: Path, since: float) -> list[str]:
    """Error lines of the steps of this call; Snakemake's own output says only that they failed."""
    recent = (path for path in sorted(logs.rglob("*.log")) if path.stat().st_mtime >= since)
    lines = [line for path in recent for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith("error: ")))[:MOST_LINES]


def _after_failure(scale: str, names: Sequence[str], plan: Plan, started: float) -> int:
    """Draws and judges what is there, gaps marked, and says which runs failed."""
    errors = _errors(plan.layout.logs, started)
    failures = sorted(plan.layout.failure(key) for key in plan.runs if plan.layout.failure(key).exists())
    for step in ("collect", "draw", "judge", "paper"):
        subprocess.run([sys.executable, "-m", "bench", step, "--scale", scale, *_named(names)], env=environment())
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in failures]
    causes = [content for content in contents if not content.get("blocked")]
    for content in causes[:MOST_LINES]:
        print(f"FAILED {content['label']}: {content['why']}", file=sys.stderr)
    if len(causes) > MOST_LINES:
        print(f"and {len(causes) - MOST_LINES} more, in {plan.layout.runs}/*.failed", file=sys.stderr)
    for line in errors:
        print(line, file=sys.stderr)
    blocked = len(failures) - len(causes)
    more = f", {blocked} of them because their parent did" if blocked else ""
    what = f"{len(failures)} runs failed{more}" if failures else "a step failed"
    print(
        f"{what}; what is there was drawn with gaps. The same command tries again; logs: {plan.layout.logs}",
        file=sys.stderr,
    )
    return 1


def _browsable(call: list[str], plan: Plan) -> None:
    """``report.zip``: every exhibit by paper, with caption, code and parameters; opens offline."""
    target = plan.layout.root / "report.zip"
    newest = max((path.stat().st_mtime for path in plan.layout.exhibits.rglob("*")), default=0.0)
    if target.exists() and target.stat().st_mtime > newest:
        return
    # The archive holds a folder named after itself, so it is made under its final name.
    part = target.parent / "scratch" / target.name
    part.parent.mkdir(exist_ok=True)
    plan.layout.logs.mkdir(parents=True, exist_ok=True)
    log = plan.layout.logs / "report.log"
    with log.open("wb") as stream:
        report = [sys.executable, "-m", *call, "--report", str(part)]
        code = subprocess.run(report, stdout=stream, stderr=subprocess.STDOUT, env=environment()).returncode
    if code == 0:
        part.replace(target)
    else:
        print(f"report.zip could not be made; see {log}", file=sys.stderr)
