"""The Dockerfile line by line, as far as that goes without an engine; with one it is built where it is asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from bench.cli import main as command_line

ROOT = Path(__file__).resolve().parent.parent.parent
KNOWN = {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) with continuation lines joined and comments left out."""
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], " ".join(line.split()[1:])) for line in joined.splitlines()]


def of(name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions() if instruction == name]


def test_the_lock_file_is_installed_before_the_code_is_copied() -> None:
    assert {name for name, _ in instructions()} <= KNOWN and instructions()[0][0] == "FROM"
    pip = [run for run in of("RUN") if "pip install" in run]
    assert all("--no-deps" in run for run in pip) and "requirements.lock" in pip[0] and "--editable ." in pip[1]
    assert of("COPY") == ["requirements.lock ./", ". ."]
    order = [arguments for _, arguments in instructions()]
    assert order.index("requirements.lock ./") < order.index(pip[0]) < order.index(". .") < order.index(pip[1])
    assert not re.search(r"://|-index\b", (ROOT / "Dockerfile").read_text())
    for run in of("RUN"):
        subprocess.run(["sh", "-n", "-c", run], check=True)


def test_the_makefile_installs_each_line_of_the_lock_file_once() -> None:
    """`make env` all but those that `make slurm` installs."""
    makefile = (ROOT / "Makefile").read_text()
    parts = re.findall(r"grep (-v )?'\$\(ON_DEMAND\)' requirements.lock > \$@.txt", makefile)
    assert sorted(parts) == ["", "-v "] and makefile.count("--no-deps --requirement $@.txt") == 2
    (on_demand,) = re.findall(r"^ON_DEMAND := (.*)$", makefile, re.MULTILINE)
    later = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if re.match(on_demand, line)]
    names = [line.partition("==")[0] for line in later]
    assert names == ["snakemake-executor-plugin-slurm", "snakemake-executor-plugin-slurm-jobstep"]


def test_the_command_is_the_suites_own_and_its_variables_are_read() -> None:
    assert of("ENTRYPOINT") == ['["python", "-m", "bench"]'] and of("CMD") == ['["doctor"]']
    assert "doctor" in command_line.bench.commands
    (variables,) = of("ENV")
    paths = (ROOT / "bench" / "paths.py").read_text()
    for name in re.findall(r"(BENCH_\w+)=", variables):
        assert f'"{name}"' in paths


def ignored(path: str) -> bool:
    """Whether .dockerignore leaves a path out; the last rule that fits decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        keep, pattern = rule.startswith("!"), rule.lstrip("!").removeprefix("**/")
        parts = path.split("/")
        prefixes = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        if any(
            fnmatch(prefix, pattern) or ("**/" in rule and fnmatch(prefix.split("/")[-1], pattern))
            for prefix in prefixes
        ):
            out = not keep
    return out


def test_the_image_holds_the_repository_and_none_of_what_is_made() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("no git history here")
    wrong = [path for path in tracked.stdout.splitlines() if ignored(path) and not path.startswith("results/")]
    assert wrong == []
    untracked = (".venv/bin/python", "results/small/runs/x.json", "data/cifar-10-batches-py/x", ".snakemake/log/x")
    assert all(ignored(path) for path in untracked)
    assert not ignored("results/reference/small/x.json")


@pytest.mark.cluster
def test_it_builds(tmp_path: Path) -> None:
    engine = next((name for name in ("docker", "podman") if shutil.which(name)), None)
    if engine is None:
        pytest.skip("no container engine here: the Dockerfile is checked line by line only")
    if os.environ.get("BENCH_BUILD_IMAGE") != "1":
        pytest.skip("builds an image of several GB; BENCH_BUILD_IMAGE=1 asks for it")
    subprocess.run([engine, "build", "-t", "warmbench-test", str(ROOT)], check=True)
    answer = subprocess.run([engine, "run", "--rm", "warmbench-test"], capture_output=True, text=True)
    assert answer.returncode == 0 and "everything that training needs is there" in answer.stdout
