"""The command line: eighteen commands, one line for each error, exit codes, and help without what is heavy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import paths
from bench.cli import main as command_line
from bench.cli.main import main

COMMANDS = {
    *("plan", "run", "fetch", "collect", "draw", "judge", "paper", "status", "reproduce", "pack", "unpack"),
    *("freeze", "decide", "reference", "doctor", "perf", "generate", "verify"),
}


def test_there_are_eighteen_commands() -> None:
    assert set(command_line.bench.commands) == COMMANDS and len(COMMANDS) == 18
    assert set(command_line.reference.commands) == {"update", "check"}


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["plan"], "--exhibits E ..."),
        (["run"], "--smoke"),
        (["reference", "update"], "--why"),
        (["reference", "check"], "--count"),
        (["plan"], "--claims"),
        (["decide"], "--hours"),
        (["reproduce"], "--regress"),
        (["verify"], "CHECKPOINT"),
        ([], "reproduce"),
        (["reference"], "update"),
    ],
)
def test_help_lists_what_a_command_takes(words: list[str], option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    assert option in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from bench.cli.main import main; main(['verify', '--help']); "
        "print([name for name in ('torch', 'pydantic', 'yaml', 'pandas', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=paths.PROJECT)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["Missing command", "--help"]),
        (["reference"], ["Missing command"]),
        (["plna"], ["'plna'", "'plan'"]),
        (["reference", "updat"], ["'updat'", "'update'"]),
        (["plan", "--scal", "ci"], ["'--scal'", "'--scale'"]),
        (["plan"], ["--scale", "plan --help"]),
        (["plan", "--scale", "ci", "--exhibits"], ["--exhibits", "requires"]),
        (["plan", "--scale", "ci", "more"], ["more"]),
        (["plan", "--scale", "smal"], ["smal", "'small'"]),
        (["plan", "--scale", ""], ["no such scale file"]),
        (["plan", "--scale", "ci", "--exhibits", "fig7"], ["rewarm/fig7", "warmstart/fig7"]),
        (["plan", "--scale", "ci", "--exhibits", "warmstart/tabel1"], ["'warmstart/table1'"]),
        (["plan", "--scale", "ci", "--exhibits", "warmstart/fig1", "fig77"], ["'fig77'"]),
        (["plan", "--scale", "ci", "--budget", "-1"], ["--budget", "-1"]),
        (["run", "--scale", "ci", "--limit", "0"], ["--limit", "0"]),
        (["run", "--scale", "ci", "--limit", "2.5"], ["--limit", "2.5"]),
        (["run", "--scale", "ci", "--minutes", "0"], ["--minutes", "0"]),
        (["run", "--scale", "ci", "--job", "0123456789ab"], ["plan.json", "--freeze"]),
        (["run", "--scale", "ci", "--smoke", "--limit", "3"], ["--smoke"]),
        (["draw", "--scale", "ci", "--from", "nowhere"], ["--from", "reference"]),
        (["reproduce", "--scale", "ci", "--profile", "slurn"], ["slurn", "'slurm'"]),
        (["pack", "--scale", "ci", "--into", "x", "--part-mb", "0"], ["--part-mb"]),
        (["reference", "update", "--scale", "ci"], ["--why"]),
        (["reference", "check", "--scale", "ci", "--count", "0"], ["--count"]),
        (["perf", "certifid"], ["'certified'"]),
        (["verify"], ["CHECKPOINT"]),
        (["verify", "x.pt", "--eps", "8"], ["--eps", "8/255"]),
        (["verify", "x.pt", "--eps=-0.1"], ["--eps", "-0.1"]),
        (["verify", "x.pt", "--eps", "1/0"], ["--eps", "1/0"]),
        (["verify", "x.pt", "--eps", "nan"], ["--eps", "nan"]),
        (["verify", "x.pt", "--pgd-steps", "-1"], ["--pgd-steps"]),
        (["verify", "x.pt", "--methods", "ibp", "crow"], ["'crow'", "crown"]),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    words: list[str], parts: list[str], results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and all(part in line for part in parts), line


def test_an_option_takes_several_values_in_any_place(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = []
    for words in (
        ["--scale", "ci", "--exhibits", "warmstart/fig1", "rewarm/fig1"],
        ["--exhibits", "warmstart/fig1", "rewarm/fig1", "--scale", "ci"],
        ["--exhibits", "warmstart/fig1", "--scale", "ci", "--exhibits", "rewarm/fig1"],
    ):
        assert main(["plan", *words]) == 0
        tables.append(capsys.readouterr().out)
    assert "warmstart/fig1" in tables[0] and "rewarm/fig1" in tables[0]
    assert tables[0] == tables[1] == tables[2]


def test_a_failed_run_is_exit_code_1(invented: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scale = tmp_path / "toy.yaml"
    scale.write_text(invented.read_text() + "exhibits: {invented/distance: {failing_drift: 0.2}}\n")
    assert main(["run", "--scale", str(scale)]) == 1
    *failed, last = capsys.readouterr().err.splitlines()
    assert all(line.startswith("FAILED walk") for line in failed) and "6 of 15 runs failed" in last


def test_an_interrupt_is_exit_code_130(
    invented: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.workflow import execute

    def interrupted(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(execute, "run_all", interrupted)
    assert main(["run", "--scale", str(invented)]) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("interrupted")


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m bench plan --scale ci --runs | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=paths.PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "0" and done.stderr == ""


def test_smoke_is_an_option_of_run(
    invented: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENCH_SMOKE_QUIET", "1")
    assert main(["run", "--scale", str(invented), "--smoke"]) == 0
    assert "kinds of runs work" in capsys.readouterr().out


def test_records_travel(invented: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scale, carried = str(invented), str(tmp_path / "carried")
    assert main(["pack", "--scale", scale, "--into", carried]) == 2  # there is nothing
    assert main(["run", "--scale", scale, "--limit", "2"]) == 0
    assert main(["pack", "--scale", scale, "--into", carried, "--part-mb", "0.01"]) == 0
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path / "elsewhere"))
    assert main(["unpack", "--scale", scale, "--from", carried]) == 0
    assert len(list((tmp_path / "elsewhere/toy/runs").glob("*.json"))) == 2


def test_doctor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.cli import doctor

    assert main(["doctor"]) == 0
    assert "everything that training needs is there" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "TORCH", ((9, 0), (9, 9)))
    assert main(["doctor"]) == 1
    assert "missing: torch release" in capsys.readouterr().out


Bench = Callable[..., subprocess.CompletedProcess[str]]


def test_an_error_in_a_process_of_its_own_is_one_line(bench: Bench) -> None:
    answer = bench("plan", "--scale", "nowhere")
    assert answer.returncode == 2 and answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("error: nowhere")
