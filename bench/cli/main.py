"""``python -m bench COMMAND``: one function for each command. What is heavy is imported when a command is called."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.workflow.plan import Plan, Planned

PROGRAM = "python -m bench"
Function = Callable[..., Any]


class Command(click.Command):
    """A command whose repeatable options take several values after one name: ``--exhibits a b`` is two exhibits."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        repeatable = {
            name for param in self.params if isinstance(param, click.Option) and param.multiple for name in param.opts
        }
        spread: list[str] = []
        option = ""
        for word in args:
            if word.startswith("-"):
                option = word if word in repeatable else ""
            elif option and spread[-1] != option:
                spread.append(option)
            spread.append(word)
        return super().parse_args(ctx, spread)


class Group(click.Group):
    command_class = Command

    def __init__(self, name: str | None = None, **options: Any) -> None:
        # Without a command, a line says that one is missing.
        super().__init__(name, **options, no_args_is_help=False)


class Radius(click.ParamType):
    """A radius in pixel units, ``0.03137`` or ``8/255``."""

    name = "radius"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            radius = float(Fraction(str(value)))
        except (ValueError, ZeroDivisionError, OverflowError):
            self.fail(f"'{value}' is not a number; expected e.g. 8/255 or 0.4", param, ctx)
        if not 0 <= radius <= 1:
            self.fail(f"{value} is outside of 0 to 1, the range of pixels; 8 of 255 is 8/255", param, ctx)
        return radius


POSITIVE = click.IntRange(min=1)
HOURS = click.FloatRange(min=0)
scale_option = click.option(
    "--scale", required=True, metavar="S", help="ci, small, paper, or the path of a scale file."
)
exhibits_option = click.option(
    "--exhibits",
    multiple=True,
    metavar="E ...",
    help="E.g. warmstart/table1 rewarm/fig2, or warmstart for all of that paper; all exhibits without.",
)
source_option = click.option(
    "--from",
    "source",
    type=click.Choice(["results", "reference"]),
    default="results",
    show_default=True,
    help="results: what was trained here; reference: the committed records.",
)
budget_option = click.option("--budget", type=HOURS, metavar="HOURS", help="Allow more than a day of machine time.")
profile_option = click.option(
    "--profile", default="local", show_default=True, help="Name or path of a Snakemake profile, e.g. slurm."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable.")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.pass_context
def bench(context: click.Context) -> None:
    """Reproduces tables and figures of papers about warming networks up, and judges their claims."""
    from bench import machine

    context.meta["missing"] = machine.provide_user()


def _plan(scale: str, exhibits: Sequence[str], profile: str = "local") -> Plan:
    from bench import config
    from bench.workflow import plan, reproduce

    return plan.make(config.load(scale), exhibits, source=scale, gpus_of_node=reproduce.gpus_of_node(profile))


def _note(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"note: {line}", file=sys.stderr)


@bench.command()
@scale_option
@exhibits_option
@json_option
@click.option("--runs", is_flag=True, help="List every run.")
@click.option(
    "--claims", is_flag=True, help="List the claims, with the seeds that each needs by the paper's own spreads."
)
@click.option("--freeze", is_flag=True, help="Write the list of missing runs that the workflow works from.")
@profile_option
@budget_option
def plan(
    scale: str,
    exhibits: tuple[str, ...],
    as_json: bool,
    runs: bool,
    claims: bool,
    freeze: bool,
    profile: str,
    budget: float | None,
) -> None:
    """Print what would be trained and why, departures from the papers, and the cost."""
    from bench.report import needs, plan_text
    from bench.workflow import plan as planning
    from bench.workflow import planfile

    with planning.gc_disabled():
        plan = _plan(scale, exhibits, profile)
        if freeze:
            planning.check_budget(plan, budget)
            planfile.freeze(plan)
        elif as_json:
            print(plan_text.as_json(plan))
        elif claims:
            print("\n".join(needs.lines(plan)))
        else:
            print(plan_text.as_text(plan, every_run=runs))
    _note(planning.notes(plan))


@bench.command()
@scale_option
@exhibits_option
@click.option("--job", metavar="J", help="One job of the frozen plan.")
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), metavar="M", help="Stop at a checkpoint by then."
)
@click.option("--limit", type=POSITIVE, metavar="N", help="Train at most N runs.")
@click.option("--smoke", is_flag=True, help="Two steps of every kind of run in its true shape, on generated samples.")
@click.pass_context
def run(
    context: click.Context,
    scale: str,
    exhibits: tuple[str, ...],
    job: str | None,
    minutes: float | None,
    limit: int | None,
    smoke: bool,
) -> int:
    """Train what is missing, parents first; works without Snakemake."""
    from bench.workflow import gpus, planfile
    from bench.workflow.jobs import gpus_for, offered_to

    plan = _plan(scale, exhibits)
    if smoke:
        from bench.workflow import smoke as smoke_test

        if job is not None or minutes is not None or limit is not None:
            raise UserError("--smoke: trains nothing that --job, --minutes or --limit could choose; leave them out")
        return smoke_test.smoke(plan)
    if job is None:
        _note(_notes(plan))
    runs = plan.to_train() if job is None else planfile.runs_of_job(plan, job)
    if job is not None:  # the plan counts on them, whatever this node shows
        plan.gpus = max(plan.gpus, planfile.frozen_job(plan, job)["gpus"])
    if not runs:
        print("nothing to train: each run has its record, or is not needed")
    # A job of the workflow takes what the plan gave it; a call for everything trains run by run, on one GPU.
    offered = offered_to(plan) if job is not None else min(1, plan.gpus)
    needed = gpus_for([run.spec for run in runs], offered)
    with gpus.assigned(needed, jobs_per_gpu=plan.suite.jobs_per_gpu):
        if needed > 1 and "LOCAL_RANK" not in os.environ:
            return gpus.run_on(needed, context.find_root().obj)
        return _train(plan, runs[:limit], minutes, everything=job is None)


def _notes(plan: Plan) -> list[str]:
    from bench.workflow import plan as planning

    return planning.notes(plan)


def _train(plan: Plan, runs: list[Planned], minutes: float | None, *, everything: bool) -> int:
    from bench.workflow import execute

    tally = execute.run_all(plan, runs, minutes=minutes)
    if everything:
        execute.prune(plan)
    if tally.left:
        print(f"{len(tally.left)} runs left; the same command goes on with them:")
        for key in tally.left[:10]:
            print(f"  {plan.runs[key].spec.label()}")
    if tally.failed:
        blocked = f", {len(tally.blocked)} of them because their parent did" if tally.blocked else ""
        print(
            f"{len(tally.failed)} of {len(runs)} runs failed{blocked}; see {plan.layout.runs}/*.failed",
            file=sys.stderr,
        )
        return 1
    return 0


@bench.command()
@scale_option
@exhibits_option
def fetch(scale: str, exhibits: tuple[str, ...]) -> None:
    """Fetch and check the data sets that the exhibits need."""
    from bench import paths
    from bench.data import ensure

    runs = _plan(scale, exhibits).runs.values()
    for name in sorted({name for run in runs for name in run.spec.data()}):
        ensure(name, paths.data_root())


@bench.command()
@scale_option
@exhibits_option
def collect(scale: str, exhibits: tuple[str, ...]) -> None:
    """Gather the records of each exhibit in one table."""
    from bench.report import collect as collecting

    plan = _plan(scale, exhibits)
    for name in plan.exhibits:
        collecting.collect(plan, name)


def _collected(scale: str, exhibits: Sequence[str], source: str) -> Plan:
    """The plan with the results of this folder, or with the committed records in their place."""
    plan = _plan(scale, exhibits)
    if source == "reference":
        from bench.report import reference

        return reference.as_results(plan)
    _note(_notes(plan))
    from bench.report import collect as collecting

    if outdated := collecting.outdated(plan):
        others = f" and {len(outdated) - 1} more" if len(outdated) > 1 else ""
        selection = f" --exhibits {' '.join(exhibits)}" if exhibits else ""
        _note(
            [
                f"{outdated[0]}{others} collected from other records than are there now; "
                f"`{PROGRAM} collect --scale {scale}{selection}` reads these"
            ]
        )
    return plan


@bench.command()
@scale_option
@exhibits_option
@source_option
@click.option("--page", is_flag=True, help="Also write the page of all that has been drawn so far.")
@click.option(
    "--into", type=click.Path(path_type=Path), help="Folder for figures of a paper of one's own; nothing else."
)
@click.option("--format", "form", type=click.Choice(("pdf", "png", "pgf", "svg")), help="Format of such figures.")
@click.option("--width", type=float, metavar="INCHES", help="Each panel alone, that wide.")
@click.option("--style", metavar="FILE", help="Matplotlib style over the suite's own.")
def draw(
    scale: str,
    exhibits: tuple[str, ...],
    source: str,
    page: bool,
    into: Path | None,
    form: Literal["pdf", "png", "pgf", "svg"] | None,
    width: float | None,
    style: str | None,
) -> None:
    """Draw tables as figures and formatted tables."""
    from bench.report import draw as drawing

    plan = _collected(scale, exhibits, source)
    if into or form or width is not None or style:
        into = into or plan.layout.exhibits.with_name("figures")
        for name in plan.exhibits:
            for path in drawing.export(plan, name, into, format=form or "pdf", width=width, style=style):
                print(path)
        return
    for name in plan.exhibits:
        drawing.draw(plan, name)
    if page:
        from bench.report import judge as judging
        from bench.workflow import planfile

        judging.page_so_far(_plan(scale, tuple(planfile.frozen(plan.layout.plan)["exhibits"])))


@bench.command()
@scale_option
@exhibits_option
@source_option
@click.option("--strict", is_flag=True, help="Exit with 1 when a claim of the reference is no longer reproduced.")
def judge(scale: str, exhibits: tuple[str, ...], source: str, strict: bool) -> int:
    """Write a verdict for every published number and claim, and the page with all verdicts."""
    from bench.report import judge as judging

    return judging.judge(_collected(scale, exhibits, source), strict=strict)


@bench.command()
@scale_option
@exhibits_option
@source_option
def paper(scale: str, exhibits: tuple[str, ...], source: str) -> None:
    """Write the report as PDF."""
    from bench.report import judge as judging

    judging.report(_collected(scale, exhibits, source))


@bench.command()
@scale_option
@exhibits_option
def status(scale: str, exhibits: tuple[str, ...]) -> None:
    """List finished, running, failed and waiting runs."""
    from bench.workflow import status as standing

    plan = _plan(scale, exhibits)
    print(standing.as_text(plan))
    _note(_notes(plan))


@bench.command()
@scale_option
@exhibits_option
@profile_option
@budget_option
@click.option(
    "--rerun",
    is_flag=True,
    help="Train runs of older code again also where they are accepted, and repeat disturbed measurements of time.",
)
@click.option(
    "--regress",
    is_flag=True,
    help="Only what the reference reproduced; exit with 1 when an effect was lost, confirmed on further seeds.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done.")
def reproduce(
    scale: str, exhibits: tuple[str, ...], profile: str, budget: float | None, rerun: bool, regress: bool, dry_run: bool
) -> int:
    """Go the whole way from data to PDF, through Snakemake."""
    from bench.workflow import reproduce as workflow

    if regress:
        from bench.report import regress as comparison

        if rerun or dry_run:
            raise UserError("--regress: goes with neither --rerun nor --dry-run; leave them out")
        return comparison.regress(scale, exhibits, profile=profile, budget=budget)
    return workflow.reproduce(scale, exhibits, profile=profile, budget=budget, rerun=rerun, dry_run=dry_run)


@bench.command()
@scale_option
@exhibits_option
@click.option("--hours", type=float, metavar="HOURS", help="Core-hours, measured ones, of all calls together.")
@click.option("--profile", default="local", show_default=True, help="Name or path of a Snakemake profile, e.g. slurm.")
@budget_option
@click.option(
    "--dry-run", is_flag=True, help="Print what would be trained, its cost and what it is expected to decide."
)
def decide(
    scale: str, exhibits: tuple[str, ...], hours: float | None, profile: str, budget: float | None, dry_run: bool
) -> int:
    """Train further seeds where they are expected to decide most claims."""
    from bench.report import claims
    from bench.workflow import decide as seeds
    from bench.workflow import reproduce as workflow

    if hours is None and not dry_run:
        raise UserError("--hours: expected core-hours, e.g. 0.5; --dry-run shows what how many would decide")

    def train(names: Sequence[str]) -> int:
        return workflow.reproduce(scale, names, profile=profile, budget=budget, tables_only=True)

    code = seeds.decide(scale, exhibits, hours, judge=claims.findings, train=train, dry_run=dry_run)
    return code if code or dry_run else workflow.reproduce(scale, exhibits, profile=profile, budget=budget)


@bench.command()
@scale_option
@exhibits_option
def freeze(scale: str, exhibits: tuple[str, ...]) -> None:
    """Write what judged seeds will be judged by, to be committed before they are trained."""
    from bench.report import freeze as freezing

    plan = _plan(scale, exhibits)
    print(f"{freezing.freeze(plan)}: {len(plan.exhibits)} exhibits; commit it before their seeds are trained")


@bench.command()
@scale_option
@click.option("--into", required=True, metavar="FOLDER", help="Where to write the archives.")
@click.option("--part-mb", type=click.FloatRange(min=0.001), default=16.0, show_default=True, help="Largest part.")
def pack(scale: str, into: str, part_mb: float) -> None:
    """Write records and resumable state as checksummed archives."""
    from bench import config
    from bench.paths import Layout
    from bench.workflow import pack as packing

    layout = Layout.of(config.load(scale).scale)
    for part in packing.pack(layout, Path(into), part_bytes=int(part_mb * 1e6)):
        print(part)


@bench.command()
@scale_option
@click.option("--from", "origin", required=True, metavar="FOLDER", help="Where `pack` wrote the archives.")
def unpack(scale: str, origin: str) -> None:
    """Restore packed records; they count as finished."""
    from bench import config
    from bench.paths import Layout
    from bench.workflow import pack as packing

    layout = Layout.of(config.load(scale).scale)
    print(f"{packing.unpack(layout, Path(origin))} files restored below {layout.root}")


@bench.group(cls=Group)
def reference() -> None:
    """Committed records, which later results are compared with."""


@reference.command()
@scale_option
@exhibits_option
@click.option("--why", required=True, help="Reason, written beside the records.")
def update(scale: str, exhibits: tuple[str, ...], why: str) -> int:
    """Replace the reference records of a scale by those in results/."""
    from bench.report import reference as committed

    return committed.replace(_plan(scale, exhibits), why=why)


@reference.command()
@scale_option
@exhibits_option
@click.option("--count", type=POSITIVE, default=2, show_default=True, metavar="N", help="Runs of each paper.")
def check(scale: str, exhibits: tuple[str, ...], count: int) -> int:
    """Train the cheapest reference runs of each paper again and compare."""
    from bench.report import recheck

    return recheck.verify(_plan(scale, exhibits), count=count)


@bench.command()
@click.pass_context
def doctor(context: click.Context) -> int:
    """Check the environment and say what to do."""
    from bench.cli import doctor as examination

    return examination.main(context.meta["missing"])


@bench.command()
@click.argument("part", required=False, metavar="[PART]")
@json_option
@click.option("--check", is_flag=True, help="Exit with 1 when a ratio has fallen against the committed table.")
def perf(part: str | None, as_json: bool, check: bool) -> int:
    """Compare the speed of training steps, of one paper or all, with that of standard implementations."""
    from bench.errors import closest
    from bench.perf import table

    if part is not None and part not in table.PATHS:
        raise UserError(f"perf: unknown part '{part}'{closest(part, table.PATHS)}")
    return table.main(part, as_json=as_json, check=check)


@bench.command()
def generate() -> None:
    """Write generated files: schema and keys of the scale files, verdicts of the reference."""
    from bench.cli import generated

    for path in generated.write():
        print(path)


@bench.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--dataset", help="Test set; that of the record by default.")
@click.option("--network", help="Architecture; that of the record by default.")
@click.option("--norm", type=click.Choice(["full", "convs", "partial", "none"]), help="Where BatchNorm stands.")
@click.option("--width", type=POSITIVE, metavar="W", help="First width, if not the paper's.")
@click.option("--units", type=POSITIVE, metavar="U", help="Units of the hidden layer, if not 512.")
@click.option("--eps", type=Radius(), metavar="E", help="Radius in pixel units of 0 to 1, e.g. 8/255.")
@click.option(
    "--methods",
    multiple=True,
    type=click.Choice(["ibp", "crown_ibp", "crown", "alpha_crown"]),
    default=["ibp", "crown_ibp"],
    show_default=True,
    metavar="M ...",
    help="Any of ibp, crown_ibp, crown, alpha_crown.",
)
@click.option("--samples", type=POSITIVE, metavar="N", help="The first N test samples; all by default.")
@click.option("--batch", type=POSITIVE, metavar="B", help="Samples at once; by memory without.")
@click.option("--pgd-steps", type=POSITIVE, default=40, show_default=True, metavar="S", help="Steps of the attack.")
@click.option("--pgd-restarts", type=POSITIVE, default=1, show_default=True, metavar="R", help="Starts of the attack.")
@click.option("--alpha-iterations", type=POSITIVE, default=20, show_default=True, metavar="I", help="Of alpha-CROWN.")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32", help="Arithmetic, never TF32.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@json_option
def verify(**options: Any) -> int:
    """Verified error of a checkpoint with auto_LiRPA, and its error under attack (PGD).

    CHECKPOINT is a file of weights that a run left (.safetensors); network, data and eps come from its record. For a
    plain state dict they are given.
    """
    from bench.cli import verify as verification

    return verification.verify(verification.Request(**options))


UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
"""What the system says of a path that is of another kind or belongs to others."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 1 for failed runs, 2 for what the user must change, 130 when interrupted.

    Every error is a line on stderr.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that the locale lacks is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        with bench.make_context(PROGRAM, list(words), obj=words) as context:
            return bench.invoke(context) or 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        return _usage(error)
    except UserError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of a pipe left (`| head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        message = _system_error(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; everything finished is kept, the same command goes on", file=sys.stderr)
        return 130


def _usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    hint = "" if context is None else f"; see `{context.command_path} --help`"
    print(f"error: {' '.join(error.format_message().split()).rstrip('.')}{hint}", file=sys.stderr)
    return 2


def _system_error(error: OSError) -> str | None:
    """An error of the file system that a user can mend, in one line; ``None`` for others."""
    from bench import checkpoint

    where = f"{error.filename}: " if error.filename else ""
    if error.errno in checkpoint.FULL:
        return f"{where}no space left; free some and call again, it goes on"
    if error.errno in UNUSABLE and where:
        return f"{where}{error.strerror}; choose a writable path"
    return None
