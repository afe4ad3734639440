"""What each command of ``python -m bench`` does; everything heavy is imported when it is called."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import config
from bench.errors import UserError
from bench.workflow import plan, planfile
from bench.workflow.jobs import gpus_for


def _plan(arguments: argparse.Namespace) -> plan.Plan:
    return plan.make(config.load(arguments.scale), getattr(arguments, "exhibits", []), source=arguments.scale)


def _free_bytes(made: plan.Plan) -> int:
    folder = made.layout.root
    while not folder.exists():
        folder = folder.absolute().parent
    return shutil.disk_usage(folder).free


def do_plan(arguments: argparse.Namespace) -> int:
    from bench.report import plan_text as overview

    with plan.gc_disabled():
        made = _plan(arguments)
        if arguments.freeze:
            plan.check_budget(made, arguments.budget, _free_bytes(made))
            planfile.freeze(made)
        elif arguments.json:
            print(overview.as_json(made))
        else:
            print(overview.as_text(made, every_run=arguments.runs))
    return 0


def do_run(arguments: argparse.Namespace) -> int:
    from bench.workflow import gpus

    if arguments.minutes is not None and arguments.minutes <= 0:
        raise UserError(f"--minutes {arguments.minutes:g}: expected more than 0")
    made = _plan(arguments)
    runs = made.to_train()
    if arguments.job:
        frozen = planfile.frozen(made.layout.plan)
        keys = next((job["keys"] for job in frozen["jobs"] if job["name"] == arguments.job), None)
        if keys is None:
            raise UserError(f"{made.layout.plan}: has no job {arguments.job}; make the plan again with `plan --freeze`")
        if unknown := [key for key in keys if key not in made.runs]:
            raise UserError(f"{made.layout.plan}: is of other code or settings (run {unknown[0]}); make the plan again")
        wanted = {run.key for run in runs}
        runs = [made.runs[key] for key in keys if key in wanted]
    if not runs:
        print("nothing to train: each run has its record, or is not needed")
    # A job of the workflow takes what the plan gave it; a call for everything trains run by run, on one GPU.
    offered = made.suite.gpus_per_job if arguments.job else 1
    needed = gpus_for([run.spec for run in runs], min(offered, made.gpus))
    with gpus.assigned(needed, jobs_per_gpu=made.suite.jobs_per_gpu):
        if needed > 1 and "LOCAL_RANK" not in os.environ:
            return gpus.run_on(needed, sys.argv[1:])
        return _train(made, runs, arguments)


def _train(made: plan.Plan, runs: list[plan.Planned], arguments: argparse.Namespace) -> int:
    from bench.workflow import execute

    tally = execute.run_all(made, runs[: arguments.limit], minutes=arguments.minutes)
    if not arguments.job:
        execute.prune(made)
    if tally.left:
        print(f"{len(tally.left)} runs left; the same command goes on with them:")
        for key in tally.left[:10]:
            print(f"  {made.runs[key].spec.label()}")
    if tally.failed:
        blocked = f", {len(tally.blocked)} of them since what they start from did" if tally.blocked else ""
        named = f"each is named in {made.layout.runs}/*.failed"
        print(f"{len(tally.failed)} of {len(runs)} runs failed{blocked}; {named}", file=sys.stderr)
        return 1
    return 0


def do_fetch(arguments: argparse.Namespace) -> int:
    from bench import paths
    from bench.data import ensure

    made = _plan(arguments)
    names = sorted({name for run in made.runs.values() for name in run.spec.data()})
    for name in names:
        ensure(name, paths.data_root())
    return 0


def do_collect(arguments: argparse.Namespace) -> int:
    from bench.report import collect

    made = _plan(arguments)
    for name in made.exhibits:
        collect.collect(made, name)
    return 0


def _fed(arguments: argparse.Namespace) -> plan.Plan:
    """The plan with the results of this folder, or with the committed records in their place."""
    made = _plan(arguments)
    if arguments.origin == "results":
        _tell_outdated(made, arguments.exhibits)
        return made
    from bench.report import reference

    return reference.as_results(made)


def _tell_outdated(made: plan.Plan, names: Sequence[str]) -> None:
    """Says which tables the next step reads although other records are there now."""
    from bench.report import collect

    if outdated := collect.outdated(made):
        others = f" and {len(outdated) - 1} more" if len(outdated) > 1 else ""
        named = f" --exhibits {' '.join(names)}" if names else ""
        print(
            f"note: {outdated[0]}{others} collected from other records than are there now; "
            f"`python -m bench collect --scale {made.source or made.suite.scale}{named}` reads these",
            file=sys.stderr,
        )


def do_draw(arguments: argparse.Namespace) -> int:
    from bench.report import draw

    made = _fed(arguments)
    for name in made.exhibits:
        draw.draw(made, name)
    return 0


def do_judge(arguments: argparse.Namespace) -> int:
    from bench.report import judge

    return judge.judge(_fed(arguments), strict=arguments.strict)


def do_paper(arguments: argparse.Namespace) -> int:
    from bench.report import judge

    judge.report(_fed(arguments))
    return 0


def do_status(arguments: argparse.Namespace) -> int:
    from bench.workflow import status

    print(status.as_text(_plan(arguments)))
    return 0


def do_smoke(arguments: argparse.Namespace) -> int:
    from bench.workflow import smoke

    return smoke.smoke(_plan(arguments))


def do_reproduce(arguments: argparse.Namespace) -> int:
    from bench.workflow import reproduce

    return reproduce.reproduce(
        arguments.scale,
        arguments.exhibits,
        profile=arguments.profile,
        budget=arguments.budget,
        rerun=arguments.rerun,
        dry_run=arguments.dry_run,
    )


def do_pack(arguments: argparse.Namespace) -> int:
    from bench.workflow import pack

    layout = plan.Layout.of(config.load(arguments.scale).scale)
    for part in pack.pack(layout, Path(arguments.into), part_bytes=int(arguments.part_mb * 1e6)):
        print(part)
    return 0


def do_unpack(arguments: argparse.Namespace) -> int:
    from bench.workflow import pack

    layout = plan.Layout.of(config.load(arguments.scale).scale)
    count = pack.unpack(layout, Path(arguments.origin))
    print(f"{count} files restored below {layout.root}")
    return 0


def do_reference(arguments: argparse.Namespace) -> int:
    from bench.report import reference

    return reference.replace(_plan(arguments), why=arguments.why)


def do_verify_reference(arguments: argparse.Namespace) -> int:
    from bench.report import recheck as replicate

    return replicate.verify(_plan(arguments), count=arguments.count)


def do_doctor(arguments: argparse.Namespace) -> int:
    from bench.cli import doctor

    return doctor.main()


def do_perf(arguments: argparse.Namespace) -> int:
    from bench.perf import table

    return table.main(arguments.path, as_json=arguments.json, check=arguments.check)


def do_schema(arguments: argparse.Namespace) -> int:
    from bench.cli import schema

    schema.write()
    return 0


def do_readme(arguments: argparse.Namespace) -> int:
    from bench.cli import readme

    readme.write()
    return 0


def do_verify(arguments: argparse.Namespace) -> int:
    from bench.cli import verify as command

    return command.main(arguments.arguments)


def do_tokenize(arguments: argparse.Namespace) -> int:
    from bench.cli import tokenize as command

    return command.main(arguments.arguments)


def dispatch(arguments: argparse.Namespace) -> int:
    """Runs the chosen command and returns its exit code."""
    command: Callable[[argparse.Namespace], int] = globals()[f"do_{arguments.command.replace('-', '_')}"]
    return command(arguments)
