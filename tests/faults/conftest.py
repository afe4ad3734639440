"""Counts the faults that tests inject, and writes a table of them from a run in which all tests passed.

``python -m pytest tests/faults --reliability tests/README.md`` runs more examples of each, keeps what each test counted in
``recorded.json`` and replaces what stands between ``<!-- reliability -->`` and ``<!-- /reliability -->``. It takes about
ten minutes; a part of the tests replaces its own part of the record.
"""

from __future__ import annotations

import json
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
    days: set[str] = field(default_factory=set)

    def add(self, what: str, where: str, then: str, times: int, lost: int, day: str) -> None:
        self.days.add(day)
        fault = self.faults.setdefault((what, where), Fault(then))
        fault.times += times
        fault.lost += lost

    def table(self) -> str:
        """Markdown, by test file."""
        lines = ["| fault | injected into | times | lost | what happens |", "|---|---|---:|---:|---|"]
        lines += [
            f"| {what} | {where} | {fault.times:,} | {fault.lost or 'nothing'} | {fault.then} |"
            for (what, where), fault in self.faults.items()
        ]
        total = sum(fault.times for fault in self.faults.values())
        days = sorted({day.split(" ")[0] for day in self.days})
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        lines += [
            "",
            f"{total:,} faults, injected by `python -m pytest tests/faults --reliability tests/README.md` on {when} "
            f"({platform.system()}, Python {platform.python_version()}); the table is the tests' own output. "
            "Lost counts records that differ from an uninterrupted run, and files that are damaged or half-written.",
        ]
        return "\n".join(lines)


RECORDED = Path(__file__).with_name("recorded.json")
"""Test -> what it counted when it last passed, and when."""
PASSED = pytest.StashKey[dict]()
NOTED = pytest.StashKey[list]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", metavar="FILE", help="more examples, and their table into this Markdown file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[PASSED] = {}


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
    if report.when == "call":
        name = item.nodeid.split("tests/faults/")[-1]
        item.config.stash[PASSED][name] = item.stash.get(NOTED, []) if report.passed else None


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
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    for test, noted in session.config.stash[PASSED].items():
        recorded.pop(test, None)
        if noted:
            recorded[test] = {"when": now, "injected": noted}
    RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    tally = Tally()
    for _, entry in sorted(recorded.items()):
        for noted in entry["injected"]:
            tally.add(*noted, entry["when"])
    path = Path(name)
    path.write_text(written(path.read_text(), tally.table(), path))
    report.write_line(f"{name}: the table of {len(tally.faults)} kinds of faults")
