"""Skipped tests are listed, and fail a run that does not expect them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parent.parent / "conftest.py"
TESTS = """
import pytest

@pytest.mark.skipif(True, reason="no ocean")
@pytest.mark.parametrize("size", [1, 2])
def test_waves(size):
    pass

def test_tide():
    pytest.skip("no moon")
"""


def run(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder)
    (folder / "test_sea.py").write_text(TESTS)
    (folder / "expected_skips.txt").write_text("# nothing\n")
    variables = {name: value for name, value in os.environ.items() if name != "CI"} | environment
    variables["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # starts in half the time
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def test_each_is_listed_with_its_reason(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0
    assert "test_waves (2 cases): no ocean" in done.stdout and "test_tide: no moon" in done.stdout


@pytest.mark.parametrize(
    ("expected", "code"),
    [("test_sea.py::*", 0), ("test_sea.py::test_tide  # at night\n*waves*", 0), ("test_sea.py::test_tide", 1), ("", 1)],
)
def test_one_that_is_not_expected_fails_the_run(tmp_path: Path, expected: str, code: int) -> None:
    (tmp_path / "list.txt").write_text(f"# comment\n{expected}\n")
    done = run(tmp_path, "--fail-on-skip", "list.txt")
    assert done.returncode == code
    assert ("NOT EXPECTED" in done.stdout) == bool(code)


def test_ci_reads_the_list_beside(tmp_path: Path) -> None:
    assert run(tmp_path, CI="true").returncode == 1
