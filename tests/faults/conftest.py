"""Counts the faults that tests inject, and writes the table of the README from a run in which all of them passed.

``python -m pytest tests/faults --reliability README.md`` runs more examples of each and replaces what stands between
``<!-- reliability -->`` and ``<!-- /reliability -->``.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

BEGIN, END = "<!-- reliability -->", "<!-- /reliability -->"


@dataclass
class Fault:
    """One line of the table."""

    then: str
    times: int = 0
    lost: int = 0


@dataclass
class Tally:
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)

    def add(self, what: str, where: str, then: str, times: int, lost: int) -> None:
        fault = self.faults.setdefault((what, where), Fault(then))
        fault.times += times
        fault.lost += lost

    def table(self) -> str:
        """Markdown, in the order in which the tests ran."""
        lines = ["| fault | injected into | times | lost | what happens |", "|---|---|---:|---:|---|"]
        lines += [
            f"| {what} | {where} | {fault.times:,} | {fault.lost or 'nothing'} | {fault.then} |"
            for (what, where), fault in self.faults.items()
        ]
        total = sum(fault.times for fault in self.faults.values())
        stamp = time.strftime("%Y-%m-%d", time.gmtime())
        lines += [
            "",
            f"{total:,} faults, injected by `python -m pytest tests/faults --reliability README.md` on {stamp} "
            f"({platform.system()}, Python {platform.python_version()}); the table is that run's own output. "
            "Lost counts records that differ from an uninterrupted run, and files that are damaged or half-written.",
        ]
        return "\n".join(lines)


TALLY = pytest.StashKey[Tally]()
NOTED = pytest.StashKey[list]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", metavar="FILE", help="more examples, and their table into this Markdown file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLY] = Tally()


@pytest.fixture
def injected(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``injected(what, where, then, times=1, lost=0)``: counts, if the test passes."""
    noted = request.node.stash.setdefault(NOTED, [])

    def note(what: str, where: str, then: str, *, times: int = 1, lost: int = 0) -> None:
        noted.append((what, where, then, times, lost))

    return note


@pytest.fixture(scope="session")
def examples(request: pytest.FixtureRequest) -> int:
    """How many examples a property takes: few in everyday tests, more for the table."""
    return 12 if request.config.getoption("--reliability", None) else 3


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.passed:
        for noted in item.stash.get(NOTED, []):
            item.config.stash[TALLY].add(*noted)


def written(text: str, table: str, where: Path) -> str:
    """The Markdown with another table between the markers."""
    if BEGIN not in text or END not in text:
        raise pytest.UsageError(f"{where}: has no {BEGIN} … {END}; add the two lines where the table should stand")
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}"


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    name = session.config.getoption("--reliability", None)
    if not name:
        return
    report = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus != 0:
        report.write_line(f"{name} stays as it is: not all tests passed")
        return
    path = Path(name)
    path.write_text(written(path.read_text(), session.config.stash[TALLY].table(), path))
    report.write_line(f"{name}: the table of {len(session.config.stash[TALLY].faults)} kinds of faults")
