"""Exhibits: one table or figure of one paper each, found in ``bench/<paper>/exhibits/*.py`` and in ``$BENCH_EXTRA``."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from bench import paths
from bench.config import Suite, lines_of, no_switch
from bench.errors import UserError, closest
from bench.record import Record
from bench.run import Frozen, RunSpec

if TYPE_CHECKING:
    import pandas as pd

    from bench.stats import Outcome

PAPERS = ("warmstart", "rewarm", "certified")

Row = dict[str, Any]
"""One number: label columns, ``seed``, ``metric``, optional ``x_name`` and ``x``, ``value``."""

LABELS = ("panel", "dataset", "model", "method", "optimizer", "x_name", "x")
"""Columns that the published numbers and ours share; together with ``metric`` they name a number."""


class ExhibitSettings(Frozen):
    """Settings of an exhibit; defaults are the paper's values."""

    selects: ClassVar[frozenset[str]] = frozenset({"seeds", "first_seed"})
    """Fields that choose which cells are run; a departure in them leaves each number comparable."""

    seeds: int = Field(5, ge=1, le=1000, description="repetitions of each configuration")
    first_seed: int = Field(0, ge=0, description="seed of the first repetition")

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        expected = cls.model_fields[str(info.field_name)].annotation
        return value if bool in (expected, *get_args(expected)) else no_switch(value)

    def seed_range(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    def departures(self) -> dict[str, tuple[Any, Any]]:
        """Field -> (the paper's value, the value here) for every field that differs, as plain data."""
        paper, here = type(self)().model_dump(mode="json"), self.model_dump(mode="json")
        return {name: (paper[name], here[name]) for name in self.model_dump(exclude_defaults=True)}

    def at_protocol(self) -> bool:
        """Whether numbers can be held against the published ones."""
        return not set(self.departures()) - self.selects


@dataclass(frozen=True)
class Member:
    """A run in an exhibit, under the names that the published numbers have."""

    labels: Mapping[str, Any]
    spec: RunSpec


@dataclass(frozen=True)
class Claim:
    """A statement of the paper as a test on the exhibit's rows.

    Attributes:
        name: short, e.g. ``T1a``.
        statement: the paper's claim in one sentence.
        source: where the paper says so.
        test: long frame -> outcome with an interval.
        beyond: scale -> why that scale cannot be expected to show it; the verdict stands, the reason is printed.
        also: further exhibits whose rows the test needs; it then gets ``{name: frame}``.
    """

    name: str
    statement: str
    source: str
    test: Callable[[Any], Outcome]
    beyond: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exhibit:
    """One table or figure.

    Attributes:
        name: ``<paper>/<name>``.
        title: what stands over it.
        caption: one or two sentences for the report.
        kind: "table" or "figure".
        settings: model whose defaults are the paper's values.
        members: settings -> runs, in the order of the exhibit.
        rows: (member, record) -> numbers.
        draw: (long frame, published frame, settings) -> a matplotlib figure, or a frame of cells for a table.
        margins: metric -> how far from the published value still counts as reproduced; metrics without one are context.
        claims: what the exhibit supports.
        derive: long frame -> numbers that take several runs, such as a difference from another arm of the same seed.
    """

    name: str
    title: str
    caption: str
    kind: Literal["table", "figure"]
    settings: type[ExhibitSettings]
    members: Callable[[Any], Sequence[Member]]
    rows: Callable[[Member, Record], Iterable[Row]]
    draw: Callable[[pd.DataFrame, pd.DataFrame, Any], Any]
    margins: Mapping[str, float] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    derive: Callable[[pd.DataFrame], Iterable[Row]] | None = None

    @property
    def paper(self) -> str:
        return self.name.split("/")[0]

    @property
    def short(self) -> str:
        return self.name.split("/")[1]

    @property
    def module(self) -> str:
        """Module whose code decides how records become numbers and pictures."""
        return self.members.__module__

    @property
    def file(self) -> str:
        """The file that declares it, below the project where it is the suite's own."""
        path = Path(sys.modules[self.module].__file__ or "")
        return str(path.relative_to(paths.PROJECT)) if path.is_relative_to(paths.PROJECT) else path.name


def _modules() -> Iterable[str]:
    for paper in PAPERS:
        folder = Path(__file__).parent / paper / "exhibits"
        yield from (f"bench.{paper}.exhibits.{path.stem}" for path in sorted(folder.glob("[a-z]*.py")))


def _extra() -> Iterable[str]:
    """Modules in ``$BENCH_EXTRA``: a user's exhibits, imported under ``bench_extra``."""
    folder = os.environ.get("BENCH_EXTRA")
    if not folder:
        return
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"BENCH_EXTRA={folder}: no such folder; it should hold Python files that define EXHIBIT")
    if list(getattr(sys.modules.get("bench_extra"), "__path__", ())) != [str(root)]:
        # The variable may have changed since, where several folders are looked at in one process.
        for name in [name for name in sys.modules if name.partition(".")[0] == "bench_extra"]:
            del sys.modules[name]
        spec = importlib.util.spec_from_loader("bench_extra", loader=None, is_package=True)
        assert spec is not None
        package = importlib.util.module_from_spec(spec)
        package.__path__ = [str(root)]
        sys.modules["bench_extra"] = package
    yield from (f"bench_extra.{path.stem}" for path in sorted(root.glob("[a-z]*.py")))


@lru_cache(maxsize=1)
def registry() -> dict[str, Exhibit]:
    """All exhibits by name.

    Raises:
        UserError: what a file calls EXHIBIT is none, or has the name of another.
    """
    found: dict[str, Exhibit] = {}
    files: dict[str, str | None] = {}
    for name in (*_modules(), *_extra()):
        module = importlib.import_module(name)
        exhibit = getattr(module, "EXHIBIT", None)
        if exhibit is None:
            continue
        if not isinstance(exhibit, Exhibit):
            kind = type(exhibit).__name__
            raise UserError(f"{module.__file__}: EXHIBIT is of type {kind}; expected a bench.exhibit.Exhibit")
        if exhibit.name in found:
            raise UserError(f"{module.__file__}: {files[exhibit.name]} has an exhibit '{exhibit.name}' too; rename one")
        found[exhibit.name], files[exhibit.name] = exhibit, module.__file__
    return found


def select(suite: Suite, names: Sequence[str] = ()) -> list[Exhibit]:
    """The exhibits asked for; ``warmstart`` alone means all of that paper.

    Raises:
        UserError: an exhibit does not exist; names the closest.
    """
    known = registry()
    chosen: list[Exhibit] = []
    for name in names or suite.only or tuple(known):
        members = [known[name]] if name in known else [e for e in known.values() if e.paper == name]
        if not members:
            allowed = {*known, *(exhibit.paper for exhibit in known.values())}
            raise UserError(f"exhibit '{name}' does not exist{closest(name, allowed)}")
        chosen += [exhibit for exhibit in members if exhibit not in chosen]
    return chosen


def settings_of(suite: Suite, exhibit: Exhibit) -> ExhibitSettings:
    """The exhibit's settings at this scale: the paper's, then the paper-wide ones, then its own.

    Raises:
        UserError: a line for each wrong key.
    """
    fields = exhibit.settings.model_fields
    common = {key: value for key, value in suite.common.get(exhibit.paper, {}).items() if key in fields}
    own = suite.exhibits.get(exhibit.name, {})
    seed = {"first_seed": suite.first_seed} if suite.first_seed else {}
    try:
        return exhibit.settings.model_validate({**seed, **common, **own})
    except ValidationError as error:
        shared = {key: f"scale {suite.scale}, common.{exhibit.paper}" for key in common if key not in own}
        raise UserError(lines_of(error, f"scale {suite.scale}, {exhibit.name}", {"": list(fields)}, shared)) from error


def members_of(suite: Suite, exhibit: Exhibit, settings: ExhibitSettings) -> list[Member]:
    """The exhibit's runs at this scale.

    Raises:
        UserError: values that no run can have, where the settings alone did not tell.
    """
    where = f"scale {suite.scale}, {exhibit.name}"
    try:
        return list(exhibit.members(settings))
    except ValidationError as error:
        raise UserError(lines_of(error, where)) from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def check(suite: Suite) -> None:
    """Validates every section of a scale file before anything runs.

    Raises:
        UserError: an exhibit or a key that no exhibit knows.
    """
    known = registry()
    lines = []
    absent = [name for name in suite.exhibits if name not in known]
    absent += [name for name in suite.only if name not in known and name not in PAPERS]
    for name in absent:
        if name in PAPERS:
            lines.append(
                f"scale {suite.scale}: exhibits: '{name}' is a paper; what its exhibits share goes below `common`"
            )
        else:
            lines.append(f"scale {suite.scale}: exhibit '{name}' does not exist{closest(name, known)}")
    for paper, common in suite.common.items():
        exhibits = [exhibit for exhibit in known.values() if exhibit.paper == paper]
        fields = {key for exhibit in exhibits for key in exhibit.settings.model_fields}
        if not exhibits:
            lines.append(f"scale {suite.scale}: common: unknown paper '{paper}'{closest(paper, PAPERS)}")
            continue
        lines += [
            f"scale {suite.scale}: common.{paper}: unknown key '{key}'{closest(key, fields)}"
            for key in common
            if key not in fields
        ]
    for name in suite.exhibits:
        if name in known:
            try:
                settings_of(suite, known[name])
            except UserError as error:
                lines += str(error).splitlines()
    if lines:
        # What exhibits share is wrong in all of them, and told once.
        raise UserError("\n".join(list(dict.fromkeys(lines))[:10]))


def row(member: Member, metric: str, value: float, **labels: Any) -> Row:
    """One number of a member; `labels` add to or override the member's."""
    return {**member.labels, **labels, "seed": member.spec.seed, "metric": metric, "value": value}


def by_seed(frame: Any, metric: str, **labels: Any) -> dict[int, float]:
    """Seed -> value of one number of an exhibit's long frame, the rows that `row` made.

    Raises:
        KeyError: there is no such row, naming what was asked for.
    """
    chosen = frame["metric"] == metric
    for name, value in labels.items():
        chosen &= frame[name] == value
    found = frame.loc[chosen, ["seed", "value"]]
    if found.empty:
        raise KeyError(", ".join([metric, *(f"{name} {value}" for name, value in labels.items())]))
    return dict(zip(found["seed"].tolist(), found["value"].tolist(), strict=False))
