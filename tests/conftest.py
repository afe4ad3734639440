"""Shared by all tests: the invented paper, a results folder of their own, the command line as a function.

``--fail-on-skip FILE`` (or ``CI=true`` in the environment) fails the run on a skipped test that FILE does not name. FILE has
a pattern of test names a line.
Every run ends with the list of what was skipped and why.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAPERS = ROOT / "tests" / "papers"
EXPECTED_SKIPS = Path(__file__).with_name("expected_skips.txt")
# Networks of this size gain nothing from a second thread, and the other process needs the core.
os.environ.setdefault("OMP_NUM_THREADS", "1")


class Skips:
    """Collects skipped tests, reports them, and fails the run on those that are not expected."""

    def __init__(self, expected: Path | None):
        self.reasons: dict[str, str] = {}
        self.expected: list[str] | None = None
        if expected is not None:
            lines = (line.partition("#")[0].strip() for line in expected.read_text(encoding="utf-8").splitlines())
            self.expected = [line for line in lines if line]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._add(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._add(report)

    def _add(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        self.reasons[report.nodeid] = reason.removeprefix("Skipped: ")

    def unexpected(self) -> list[str]:
        if self.expected is None:
            return []
        return [name for name in self.reasons if not any(fnmatchcase(name, pattern) for pattern in self.expected)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.OK and self.unexpected():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.reasons:
            terminalreporter.section("skipped")
        by_reason: dict[tuple[str, str], int] = {}
        for name, reason in self.reasons.items():
            key = (name.partition("[")[0], reason)
            by_reason[key] = by_reason.get(key, 0) + 1
        for (name, reason), count in by_reason.items():
            terminalreporter.line(f"{name}{f' ({count} cases)' if count > 1 else ''}: {reason}")
        for name in self.unexpected():
            terminalreporter.line(f"NOT EXPECTED to be skipped: {name}", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fail-on-skip", metavar="FILE", help="fail when a test is skipped that FILE does not name")


def pytest_configure(config: pytest.Config) -> None:
    named = config.getoption("--fail-on-skip")
    expected = Path(named) if named else EXPECTED_SKIPS if os.environ.get("CI") == "true" else None
    config.pluginmanager.register(Skips(expected))


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty results folder."""
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def invented(results: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The invented paper, registered in this process and in those it starts; gives the path of its scale file."""
    from bench import exhibit

    monkeypatch.setenv("BENCH_EXTRA", str(PAPERS))
    exhibit.registry.cache_clear()
    yield PAPERS / "scale.yaml"
    exhibit.registry.cache_clear()


@pytest.fixture
def bench(results: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``bench("plan", "--scale", "ci")``: the command line in a process of its own."""

    def call(*arguments: str, timeout: float = 800, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bench", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
        )

    return call
