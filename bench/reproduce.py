"""The whole way from data to PDF: freeze the plan, call Snakemake, draw what is there when something failed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from bench import config, paths, plan
from bench.errors import UserError

PROFILES = config.CONFIGS / "profiles"


def command_line(made: plan.Plan, profile: str) -> list[str]:
    """The `snakemake` call that does the same, to paste into a shell after `plan --freeze`."""
    folder = PROFILES / profile if (PROFILES / profile).is_dir() else Path(profile)
    if not (folder / "config.yaml").is_file():
        known = ", ".join(sorted(path.name for path in PROFILES.iterdir()))
        raise UserError(f"profile {profile}: no {folder / 'config.yaml'}; known: {known}")
    return [
        "snakemake",
        "--snakefile",
        os.path.relpath(paths.PROJECT / "Snakefile"),
        "--profile",
        os.path.relpath(folder),
        "--config",
        f"plan={made.layout.plan}",
        f"python={sys.executable}",
    ]


def reproduce(
    scale: str,
    names: Sequence[str],
    *,
    profile: str = "local",
    budget: float | None = None,
    rerun: bool = False,
    dry_run: bool = False,
) -> int:
    """Makes every file of a scale; returns 0 when all is there and nothing failed.

    Raises:
        UserError: wrong configuration, too much work for the budget, or another call at work in the same folder.
    """
    suite = config.load(scale)
    if rerun:
        suite = suite.model_copy(update={"older_code": "retrain"})
    made = plan.make(suite, names, source=scale)
    call = command_line(made, profile)
    made.layout.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(made.layout.root / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{made.layout.root}: another call is at work here; wait for it or stop it") from None
    with lock:
        if not dry_run:
            plan.check_budget(made, budget, shutil.disk_usage(made.layout.root).free)
        plan.freeze(made)
        print(
            f"same as: {shlex.join([sys.executable, '-m', 'bench', 'plan', '--scale', scale, *_named(names), '--freeze'])} "
            f"&& {shlex.join(call)}",
            flush=True,
        )
        code = subprocess.run([sys.executable, "-m", *call, *(["--dry-run"] if dry_run else [])]).returncode
        if dry_run:
            return code
        if code != 0:
            return _after_failure(scale, names, made)
        _browsable(call, made)
        from bench import execute

        execute.prune(plan.make(suite, names, source=scale))
    print(where(made))
    return 0


def _named(names: Sequence[str]) -> list[str]:
    return ["--exhibits", *names] if names else []


def _after_failure(scale: str, names: Sequence[str], made: plan.Plan) -> int:
    """Draws and judges what is there, gaps marked, and says which runs failed."""
    failures = sorted(made.layout.failure(key) for key in made.runs if made.layout.failure(key).exists())
    for step in ("collect", "draw", "judge", "paper"):
        subprocess.run([sys.executable, "-m", "bench", step, "--scale", scale, *_named(names)])
    import json

    for path in failures:
        content = json.loads(path.read_text())
        print(f"FAILED {content['label']}: {content['why']}", file=sys.stderr)
    print(
        f"{len(failures)} runs failed; what is there was drawn with gaps. The same command tries them again; "
        f"logs: {made.layout.logs}",
        file=sys.stderr,
    )
    return 1


def _browsable(call: list[str], made: plan.Plan) -> None:
    """``report.zip``: every exhibit by paper, with caption, code and parameters; opens offline."""
    target = made.layout.root / "report.zip"
    newest = max((path.stat().st_mtime for path in made.layout.exhibits.rglob("*")), default=0.0)
    if target.exists() and target.stat().st_mtime > newest:
        return
    part = target.with_name(".report.zip")
    made.layout.logs.mkdir(parents=True, exist_ok=True)
    log = made.layout.logs / "report.log"
    with log.open("w") as stream:
        done = subprocess.run(
            [sys.executable, "-m", *call, "--report", str(part)], stdout=stream, stderr=subprocess.STDOUT
        ).returncode
    if done == 0:
        part.replace(target)
    else:
        print(f"report.zip could not be made; see {log}", file=sys.stderr)


def where(made: plan.Plan) -> str:
    """Where a person finds what was made."""
    root = made.layout.root
    places = {
        "report": root / "paper.pdf",
        "verdicts": root / "index.html",
        "as text": root / "verdicts.md",
        "figures and tables": root / "exhibits",
        "browsable": root / "report.zip",
        "records": root / "runs",
    }
    return "\n".join(f"{name:20} {path}" for name, path in places.items() if path.exists())
