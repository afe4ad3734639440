"""Exhibits: one table or figure of one paper each; the module that declares one is ``<paper>/exhibits/<name>.py``.

Papers are found, not listed: every folder with ``exhibits/`` below ``bench/`` or below ``$BENCH_EXTRA`` is one, and a
folder there that has the name of a paper adds exhibits to it. An exhibit is a module with

* a docstring: its first line is the title; then what the paper shows, expected numbers, cost,
* ``CAPTION``: one or two sentences for the report, and where numbers are compared ``MARGINS``: metric -> margin,
* ``Settings``: a model whose defaults are the paper's values,
* ``arms(settings)``: the `Arm`s of the design,
* ``rows(run, record)``: the numbers of one run, and perhaps ``derive(frame)`` for those that take several runs,
* ``draw(frame, published, settings)``: annotated ``-> Figure`` for a figure, ``-> pd.DataFrame`` for a table,
* tests marked ``@claim(name, statement, source)``.

Where it needs them, it declares also

* ``chance(settings, row)``: the `Chance` level of a number that its labels and metric name, or ``None``,
* ``RANGES``: metric -> (lowest, highest) value, beside those of `range_of`,
* ``CHAOTIC = True``: other rounding alone is another draw of the noise, so that a seed trained again is no pair.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from bench import paths, stats
from bench.config import Suite, lines_of, no_switch
from bench.errors import UserError, closest
from bench.record import Record
from bench.run import RunSpec, StrictModel
from bench.stats import Finding, Values

if TYPE_CHECKING:
    import pandas as pd

EXTRA = "bench_extra"
"""Package under which the folders of ``$BENCH_EXTRA`` are imported."""

Row = dict[str, Any]
"""One number: label columns, ``seed``, ``metric``, optional ``x_name`` and ``x``, ``value``."""

LABELS = ("panel", "dataset", "model", "method", "optimizer", "x_name", "x")
"""Columns that the published numbers and ours share; together with ``metric`` they name a number."""


class ExhibitSettings(StrictModel):
    """Settings of an exhibit; defaults are the paper's values."""

    selects: ClassVar[frozenset[str]] = frozenset({"seeds", "first_seed"})
    """Fields that choose which arms are run; a departure in them leaves each number comparable."""

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
        """Field -> (the paper's value, the value here) for every field that differs, as plain data.

        Papers name no seeds: where they begin is no departure.
        """
        paper, here = type(self)().model_dump(mode="json"), self.model_dump(mode="json")
        changed = self.model_dump(exclude_defaults=True, exclude={"first_seed"})
        return {name: (paper[name], here[name]) for name in changed}

    def at_protocol(self) -> bool:
        """Whether numbers can be compared with the published ones."""
        return not set(self.departures()) - self.selects


@dataclass(frozen=True)
class Arm:
    """One condition of an exhibit's design.

    Attributes:
        labels: the names that its numbers have in the paper.
        run: seed -> its run.
        seeds: repetitions, where the design has others for it than the exhibit's.
    """

    labels: Mapping[str, Any]
    run: Callable[[int], RunSpec]
    seeds: int | None = None


@dataclass(frozen=True)
class ArmRun:
    """The run of an arm with one seed, under the arm's labels."""

    labels: Mapping[str, Any]
    spec: RunSpec


@dataclass(frozen=True)
class Claim:
    """A statement of the paper as a test on the exhibit's rows.

    Attributes:
        name: short, e.g. ``T1a``.
        statement: the paper's claim in one sentence.
        source: where the paper says so.
        test: long frame -> finding with an interval.
        not_expected_at: scale -> why the claim is not expected to hold there; the verdict stands, the reason is printed.
        also: further exhibits whose rows the test needs; it then gets ``{name: frame}``.
        kind: an estimate is what the paper reports and claims nothing about: it is shown and never judged.
    """

    name: str
    statement: str
    source: str
    test: Callable[[Any], Finding]
    not_expected_at: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    kind: Literal["claim", "estimate"] = "claim"


Test = Callable[[Any], "Finding | Iterable[Finding]"]


def claim(
    name: str,
    statement: str,
    source: str,
    *,
    not_expected_at: Mapping[str, str] | None = None,
    also: Sequence[str] = (),
    kind: Literal["claim", "estimate"] = "claim",
) -> Callable[[Test], Test]:
    """Declares a test of an exhibit's module as a claim; it returns a finding, or yields several that must all hold.

    Args:
        name, statement, source, not_expected_at, also, kind: as in `Claim`.
    """

    def declare(test: Test) -> Test:
        @wraps(test)
        def whole(frames: Any) -> Finding:
            result = test(frames)
            return result if isinstance(result, Finding) else stats.all_of(list(result))

        test.claim = Claim(  # type: ignore[attr-defined]
            name, statement, source, whole, not_expected_at or {}, tuple(also), kind
        )
        return test

    return declare


class Chance(NamedTuple):
    """What predicting without looking gets.

    Attributes:
        percent: of the metric, as 90 of an error with ten classes.
        samples: that the metric is evaluated on.
    """

    percent: float
    samples: int


_RANGES = {
    r"(^|_)(acc|accuracy|error)(_|$)": (0.0, 100.0),
    r"(^|_)r_squared(_|$)": (0.0, 1.0),
    r"(^|_)correlation(_|$)": (-1.0, 1.0),
    r"(^|_)(loss|seconds|samples|epochs)(_|$)": (0.0, math.inf),
}


def range_of(metric: str) -> tuple[float, float]:
    """Lowest and highest value of a metric, by the words of its name: accuracies and errors are percentages."""
    return next((ends for words, ends in _RANGES.items() if re.search(words, metric)), (-math.inf, math.inf))


@dataclass(frozen=True)
class Exhibit:
    """One table or figure, as its module declares it.

    Attributes:
        name: ``<paper>/<name>``.
        title: what stands over it.
        caption: one or two sentences for the report.
        kind: "table" or "figure".
        settings: model whose defaults are the paper's values.
        runs: settings -> runs, in the order of the exhibit.
        rows: (run, record) -> numbers.
        draw: (long frame, published frame, settings) -> a matplotlib figure, or a frame of cells for a table.
        module: dotted name of the module whose code decides how records become numbers and pictures.
        margins: metric -> how far from the published value still counts as reproduced; metrics without one are context.
        claims: what the exhibit supports.
        derive: long frame -> numbers that take several runs, such as a difference from another arm of the same seed.
        chance: (settings, labels and metric of a number) -> its chance level.
        ranges: metric -> lowest and highest value, where `range_of` does not know them.
        chaotic: whether the same seed trained again with other rounding is a new draw.
    """

    name: str
    title: str
    caption: str
    kind: Literal["table", "figure"]
    settings: type[ExhibitSettings]
    runs: Callable[[Any], Sequence[ArmRun]]
    rows: Callable[[ArmRun, Record], Iterable[Row]]
    draw: Callable[[pd.DataFrame, pd.DataFrame, Any], Any]
    module: str
    margins: Mapping[str, float] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    derive: Callable[[pd.DataFrame], Iterable[Row]] | None = None
    chance: Callable[[Any, Mapping[str, Any]], Chance | None] | None = None
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    chaotic: bool = False

    @property
    def paper(self) -> str:
        return self.name.split("/")[0]

    @property
    def short(self) -> str:
        return self.name.split("/")[1]

    @property
    def file(self) -> str:
        """The file that declares it, below the project where it is the suite's own."""
        path = Path(sys.modules[self.module].__file__ or "")
        return str(path.relative_to(paths.PROJECT)) if path.is_relative_to(paths.PROJECT) else path.name


NAME = re.compile(r"[a-z][a-z0-9_]*")
NAME_IN_WORDS = "small letters, digits and underscores, a letter first"
"""Of papers and exhibits: their folders and files are Python modules."""

REQUIRED = ("CAPTION", "Settings", "arms", "rows", "draw")
"""Names that the module of an exhibit must have."""


def declared(module: ModuleType, name: str) -> Exhibit:
    """The exhibit that a module's own names declare.

    Args:
        module: the module.
        name: ``<paper>/<file>``.

    Raises:
        UserError: the module lacks a name, or is of the form of an earlier version.
    """
    if hasattr(module, "EXHIBIT"):
        raise UserError(
            f"{module.__file__}: EXHIBIT is the form of an earlier version; now the module itself is the exhibit, with "
            f"{', '.join(REQUIRED)} and tests marked @claim (see bench/README.md)"
        )
    if lacking := [required for required in REQUIRED if not hasattr(module, required)]:
        raise UserError(f"{module.__file__}: lacks {', '.join(lacking)} of an exhibit (see bench/README.md)")
    if not (isinstance(module.Settings, type) and issubclass(module.Settings, ExhibitSettings)):
        raise UserError(f"{module.__file__}: Settings: expected a class that inherits from ExhibitSettings")
    if required := [name for name, field in module.Settings.model_fields.items() if field.is_required()]:
        raise UserError(f"{module.__file__}: Settings: {', '.join(required)}: has no default, the paper's value")
    returned = str(module.draw.__annotations__.get("return", ""))
    kind: Literal["table", "figure"] | None = (
        "figure" if "Figure" in returned else "table" if "DataFrame" in returned else None
    )
    if kind is None:
        raise UserError(f"{module.__file__}: draw: annotate what it returns, -> Figure or -> pd.DataFrame")
    title = (module.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    if not title:
        raise UserError(f"{module.__file__}: has no docstring; its first line is the exhibit's title")

    def runs(settings: ExhibitSettings) -> list[ArmRun]:
        return [
            ArmRun(arm.labels, arm.run(settings.first_seed + repetition))
            for arm in module.arms(settings)
            for repetition in range(settings.seeds if arm.seeds is None else arm.seeds)
        ]

    # A module may import another's test for a claim of its own, but not the claim.
    tests = [test for test in vars(module).values() if getattr(test, "__module__", "") == module.__name__]
    return Exhibit(
        name=name,
        title=title,
        caption=module.CAPTION,
        kind=kind,
        settings=module.Settings,
        runs=runs,
        rows=module.rows,
        draw=module.draw,
        module=module.__name__,
        margins=getattr(module, "MARGINS", {}),
        claims=tuple(test.claim for test in tests if hasattr(test, "claim")),
        derive=getattr(module, "derive", None),
        chance=getattr(module, "chance", None),
        ranges=getattr(module, "RANGES", {}),
        chaotic=getattr(module, "CHAOTIC", False),
    )


def _extra_root() -> Path | None:
    """``$BENCH_EXTRA``, made importable as the package `EXTRA`.

    Raises:
        UserError: there is no such folder, or files lie where none would be found.
    """
    folder = os.environ.get("BENCH_EXTRA")
    if not folder:
        return None
    root = Path(folder)
    expected = "it should hold <paper>/exhibits/<name>.py"
    if not root.is_dir():
        raise UserError(f"BENCH_EXTRA={folder}: no such folder; {expected}")
    # Files that would be skipped: outside of any paper, or in a paper's folder that has nothing else.
    stray = sorted(root.glob("*.py"))
    for paper in sorted(path for path in root.glob("[!_.]*") if path.is_dir()):
        if not any(paper.glob("*/[!_]*.py")):
            stray += sorted(paper.glob("*.py"))
        elif any(paper.glob("exhibits/*.py")) and not NAME.fullmatch(paper.name):
            raise UserError(f"{paper}: its name should be {NAME_IN_WORDS}")
    if stray:
        raise UserError(f"{stray[0]}: is not looked at there; {expected}")
    if not any(root.glob("*/*/*.py")):
        raise UserError(f"BENCH_EXTRA={folder}: has no exhibit; {expected}")
    if list(getattr(sys.modules.get(EXTRA), "__path__", ())) != [str(root)]:
        # The variable may have changed since, where several folders are looked at in one process.
        for name in [name for name in sys.modules if name.partition(".")[0] == EXTRA]:
            del sys.modules[name]
        spec = importlib.util.spec_from_loader(EXTRA, loader=None, is_package=True)
        assert spec is not None
        package = importlib.util.module_from_spec(spec)
        package.__path__ = [str(root)]
        sys.modules[EXTRA] = package
    return root


def _roots() -> Iterator[tuple[str, Path]]:
    """Package and folder below which papers are found: the suite's own, then the user's."""
    yield "bench", Path(__file__).parent
    extra = _extra_root()
    if extra is not None:
        yield EXTRA, extra


def papers() -> tuple[str, ...]:
    """Names of the papers: folders that hold exhibits."""
    folders = (path.parent.name for _, root in _roots() for path in sorted(root.glob("*/exhibits")) if path.is_dir())
    return tuple(dict.fromkeys(folders))


def paper_file(paper: str, name: str) -> Path | None:
    """A file of a paper, such as ``published.csv``, the suite's own before the user's; ``None`` where there is none."""
    return next((path for _, root in _roots() if (path := root / paper / name).is_file()), None)


@lru_cache(maxsize=1)
def registry() -> dict[str, Exhibit]:
    """All exhibits by name.

    Raises:
        UserError: a file declares no exhibit, or has the name of another.
    """
    exhibits: dict[str, Exhibit] = {}
    for package, root in _roots():
        for path in sorted(root.glob("*/exhibits/[!_]*.py")):
            paper = path.parent.parent.name
            name = f"{paper}/{path.stem}"
            if not NAME.fullmatch(path.stem):
                raise UserError(f"{path}: its name should be {NAME_IN_WORDS}")
            if name in exhibits:
                raise UserError(f"{path}: {exhibits[name].file} is exhibit '{name}' already; rename one")
            exhibits[name] = declared(_imported(f"{package}.{paper}.exhibits.{path.stem}", path), name)
    return exhibits


def _imported(name: str, path: Path) -> ModuleType:
    """A module of the suite, or of the user.

    Raises:
        UserError: the user's file cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, UserError) or not name.startswith(f"{EXTRA}."):
            raise
        first = str(error).partition("\n")[0]
        raise UserError(f"{path}: cannot be imported: {type(error).__name__}: {first}") from error


def select(suite: Suite, names: Sequence[str] = ()) -> list[Exhibit]:
    """The exhibits asked for; ``warmstart`` alone means all of that paper.

    Raises:
        UserError: an exhibit does not exist; names the closest.
    """
    known = registry()
    selected: list[Exhibit] = []
    for name in names or suite.only or tuple(known):
        exhibits = [known[name]] if name in known else [e for e in known.values() if e.paper == name]
        if not exhibits:
            raise UserError(f"exhibit '{name}' does not exist{_nearest(name, known)}")
        selected += [exhibit for exhibit in exhibits if exhibit not in selected]
    return selected


def _nearest(name: str, known: Mapping[str, Exhibit]) -> str:
    """Ends an error about an unknown exhibit: those of that name in any paper, or the closest name."""
    same = [full for full, exhibit in known.items() if exhibit.short == name]
    if same:
        return f"; did you mean {' or '.join(same)}?"
    return closest(name, {*known, *(exhibit.paper for exhibit in known.values())})


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


def runs_of(suite: Suite, exhibit: Exhibit, settings: ExhibitSettings) -> list[ArmRun]:
    """The exhibit's runs at this scale.

    Raises:
        UserError: values that no run can have, which the settings alone did not show.
    """
    where = f"scale {suite.scale}, {exhibit.name}"
    try:
        return list(exhibit.runs(settings))
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
    absent += [name for name in suite.only if name not in known and name not in papers()]
    for name in absent:
        if name in papers():
            lines.append(
                f"scale {suite.scale}: exhibits: '{name}' is a paper; what its exhibits share goes below `common`"
            )
        else:
            lines.append(f"scale {suite.scale}: exhibit '{name}' does not exist{closest(name, known)}")
    for paper, common in suite.common.items():
        exhibits = [exhibit for exhibit in known.values() if exhibit.paper == paper]
        fields = {key for exhibit in exhibits for key in exhibit.settings.model_fields}
        if not exhibits:
            lines.append(f"scale {suite.scale}: common: unknown paper '{paper}'{closest(paper, papers())}")
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


def row(run: ArmRun, metric: str, value: float, **labels: Any) -> Row:
    """One number of a run; `labels` add to or override the arm's."""
    return {**run.labels, **labels, "seed": run.spec.seed, "metric": metric, "value": value}


def by_seed(frame: Any, metric: str, **labels: Any) -> Values:
    """Seed -> value of one number of an exhibit's long frame, the rows that `row` made.

    Raises:
        KeyError: there is no such row, naming what was asked for.
    """
    rows = frame["metric"] == metric
    for name, value in labels.items():
        rows &= frame[name] == value
    numbers = frame.loc[rows, ["seed", "value"]]
    if numbers.empty:
        raise KeyError(", ".join([metric, *(f"{name} {value}" for name, value in labels.items())]))
    return Values(zip(numbers["seed"].tolist(), numbers["value"].tolist(), strict=False))
