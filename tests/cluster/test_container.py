"""The Dockerfile line by line, as far as that goes without an engine; with one it is built where it is asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

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


def test_every_line_is_an_instruction_that_we_know() -> None:
    assert {name for name, _ in instructions()} <= KNOWN
    assert instructions()[0] == ("FROM", "python:3.11-slim")


def test_the_lock_file_is_what_is_installed_and_nothing_else() -> None:
    pip = [run for run in of("RUN") if "pip install" in run]
    assert len(pip) == 2
    assert pip[0] == "python -m pip install --no-cache-dir --no-deps --requirement requirements.lock"
    assert "--no-deps --no-build-isolation --editable ." in pip[1]
    # As `make env` and, for Slurm, `make slurm` install it: the lines of the lock file between them, none of them twice.
    makefile = (ROOT / "Makefile").read_text()
    assert makefile.count("--no-deps --requirement $@.txt") == 2
    parts = re.findall(r"grep (-v )?'\$\(ON_DEMAND\)' requirements.lock > \$@.txt", makefile)
    assert sorted(parts) == ["", "-v "]
    (on_demand,) = re.findall(r"^ON_DEMAND := (.*)$", makefile, re.MULTILINE)
    later = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if re.match(on_demand, line)]
    names = [line.partition("==")[0] for line in later]
    assert names == ["snakemake-executor-plugin-slurm", "snakemake-executor-plugin-slurm-jobstep"]
    assert not re.search(r"https?://|index-url", (ROOT / "Dockerfile").read_text())


def test_what_is_copied_exists_and_the_lock_comes_before_the_code() -> None:
    copies = of("COPY")
    assert copies == ["requirements.lock ./", ". ."]
    assert (ROOT / "requirements.lock").is_file()
    order = [f"{name} {arguments}" for name, arguments in instructions()]
    lock, install = (
        order.index("COPY requirements.lock ./"),
        next(n for n, line in enumerate(order) if "--requirement" in line),
    )
    assert lock < install < order.index("COPY . .")


def test_each_run_line_is_a_command_of_the_shell() -> None:
    for run in of("RUN"):
        subprocess.run(["sh", "-n", "-c", run], check=True)


def test_the_command_is_the_suites_own_and_its_variables_are_read(bench) -> None:
    assert of("ENTRYPOINT") == ['["python", "-m", "bench"]'] and of("CMD") == ['["doctor"]']
    assert re.search(r"^\s+doctor\b", bench("--help").stdout, re.MULTILINE)
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
    untracked = [
        ".venv/bin/python",
        "results/small/runs/x.json",
        "data/cifar-10-batches-py/data_batch_1",
        ".snakemake/log/x",
    ]
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
