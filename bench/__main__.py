"""Command line: ``python -m bench COMMAND``. Each rule of the workflow calls one of these."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence

from bench import checkpoint
from bench.cli.arguments import Parser, count
from bench.errors import UserError


def _scale(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", required=True, metavar="S", help="ci, small, paper, or the path of a scale file")


def _exhibits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--exhibits",
        nargs="+",
        default=[],
        metavar="E",
        help="e.g. warmstart/table1, or warmstart for all of that paper",
    )


OWN_ARGUMENTS = ("verify", "tokenize")
"""Commands that read their arguments themselves, so that only they import what these need."""


def parser() -> Parser:
    """The whole command line; commands import what they need when they are called."""
    top = Parser(prog="python -m bench", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help_text: str) -> Parser:
        return commands.add_parser(name, help=help_text, description=help_text, add_help=name not in OWN_ARGUMENTS)

    plan = add("plan", "print runs, what would be trained and why, departures from the papers, and the cost")
    _scale(plan)
    _exhibits(plan)
    plan.add_argument("--json", action="store_true", help="machine-readable")
    plan.add_argument("--runs", action="store_true", help="list every run")
    plan.add_argument(
        "--freeze", action="store_true", help="write the list of missing runs that the workflow works from"
    )
    plan.add_argument("--budget", type=float, metavar="HOURS", help="allow more than a day of machine time")

    run = add("run", "train what is missing, parents first; works without Snakemake")
    _scale(run)
    _exhibits(run)
    run.add_argument("--job", metavar="J", help="one job of the frozen plan")
    run.add_argument("--minutes", type=float, metavar="M", help="stop at a checkpoint before this time is over")
    run.add_argument("--limit", type=count, metavar="N", help="train at most N runs")

    fetch = add("fetch", "fetch and check the data sets that the exhibits need")
    _scale(fetch)
    _exhibits(fetch)

    collect = add("collect", "records of each exhibit to one table")
    _scale(collect)
    _exhibits(collect)

    for name, help_text in (
        ("draw", "tables to figures and formatted tables"),
        ("judge", "a verdict for every published number and claim, and the page with all verdicts"),
        ("paper", "the report as PDF"),
    ):
        command = add(name, help_text)
        _scale(command)
        _exhibits(command)
        command.add_argument(
            "--from",
            dest="origin",
            choices=["results", "reference"],
            default="results",
            help="results: what was trained here (default); reference: the committed records, without training",
        )
        if name == "judge":
            command.add_argument(
                "--strict", action="store_true", help="exit 1 when a claim of the reference is no longer reproduced"
            )

    status = add("status", "finished, running, failed and waiting runs")
    _scale(status)
    _exhibits(status)

    smoke = add("smoke", "two steps of every distinct kind of run in its true shape, on generated samples")
    _scale(smoke)
    _exhibits(smoke)

    reproduce = add("reproduce", "the whole way from data to PDF, through Snakemake")
    _scale(reproduce)
    _exhibits(reproduce)
    reproduce.add_argument("--profile", default="local", help="local, slurm, or the path of a profile")
    reproduce.add_argument("--budget", type=float, metavar="HOURS", help="allow more than a day of machine time")
    reproduce.add_argument(
        "--rerun",
        action="store_true",
        help="train runs of older code again also where they are accepted, and repeat disturbed measurements of time",
    )
    reproduce.add_argument("--dry-run", action="store_true", help="show what would be done")

    pack = add("pack", "records and resumable state as checksummed archives")
    _scale(pack)
    pack.add_argument("--into", required=True, metavar="FOLDER")
    pack.add_argument("--part-mb", type=float, default=16.0, metavar="MB", help="largest part (default 16)")
    unpack = add("unpack", "restore what `pack` made; it is taken as done")
    _scale(unpack)
    unpack.add_argument("--from", dest="origin", required=True, metavar="FOLDER")

    reference = add("reference", "replace the committed reference records of a scale by those in results/")
    _scale(reference)
    _exhibits(reference)
    reference.add_argument("--why", required=True, help="reason, written beside the records")

    again = add("verify-reference", "train the cheapest reference runs of each paper again and compare")
    _scale(again)
    _exhibits(again)
    again.add_argument("--count", type=int, default=2, metavar="N", help="runs of each paper (default 2)")

    add("doctor", "check the environment and say what to do")
    perf = add("perf", "the suite's own speed against its peers, measured now")
    perf.add_argument("path", nargs="?", choices=["warmstart", "certified", "rewarm", "workflow"])
    perf.add_argument("--json", action="store_true")
    perf.add_argument("--check", action="store_true", help="exit 1 when a ratio has fallen against the committed table")
    add("schema", "write configs/schema.json and configs/README.md from the models")
    add("readme", "write the results in README.md, and the pages they lead to, from the committed reference records")

    add("verify", "verified error of a checkpoint with auto_LiRPA, and PGD error")
    add("tokenize", "text to token shards")
    return top


UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
"""What the system says of a path that is of another kind or belongs to others."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; user errors are lines on stderr and exit code 2, failed runs exit code 1."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    read = 1 if given and given[0] in OWN_ARGUMENTS else len(given)
    from bench.cli import commands

    try:
        chosen = parser().parse_args(given[:read], argparse.Namespace(arguments=given[read:]))
        return commands.dispatch(chosen)
    except UserError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of a pipe left (`| head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if error.errno in checkpoint.FULL:
            print(f"error: {where}no space left; free some and call again, it goes on", file=sys.stderr)
        elif error.errno in UNUSABLE and where:
            print(f"error: {where}{error.strerror}; give a path that is yours to write", file=sys.stderr)
        else:
            raise
        return 2
    except KeyboardInterrupt:
        print("interrupted; everything finished is kept, the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
