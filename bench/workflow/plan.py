"""From exhibits to runs: which there are, which are missing and why, and what they cost. Without torch."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from bench import checkpoint, exhibit, paths
from bench.config import Suite
from bench.errors import UserError
from bench.exhibit import ArmRun, ExhibitSettings
from bench.looks import BLOCK
from bench.paths import Layout
from bench.record import failures_in, is_older, keys_in
from bench.run import Cost, RunSpec
from bench.workflow import devices
from bench.workflow.keys import key_of

DONE, MISSING, OLDER = "done", "missing", "older code"


@lru_cache(maxsize=1)
def throughput() -> dict[str, dict[str, Any]]:
    """Measured or assumed FLOP/s by kind of work and machine, from ``throughput.yaml`` beside this file."""
    return yaml.safe_load((Path(__file__).parent / "throughput.yaml").read_text(encoding="utf-8"))


@lru_cache(maxsize=64)
def _flops_per_hour(kind: str, machine: str) -> float:
    rates = throughput()
    return 3600 * float(rates.get(kind, rates["default"])[machine]["flops"])


def hours(cost: Cost, machine: str) -> float:
    """Hours that `cost` takes on "cpu" (2 cores) or "gpu" (one of the H100 or H200 class)."""
    return cost.flops / _flops_per_hour(cost.kind, machine)


@dataclass
class Planned:
    """A run of the plan.

    Attributes:
        key: name of its record.
        spec: what to train.
        state: done, missing, or older code.
        why: why it has to be trained, for people.
        exhibits: those that use it, directly or through its children.
        used: key of the record that stands for it, an older one where that is accepted.
    """

    key: str
    spec: RunSpec
    state: str = MISSING
    why: str = "new"
    exhibits: list[str] = field(default_factory=list)
    used: str = ""

    @cached_property
    def cost(self) -> Cost:
        """The estimate, made once: a plan adds it up for every exhibit."""
        return self.spec.cost()


@dataclass
class Plan:
    """Everything that a scale asks for.

    Attributes:
        runs: key -> run, parents before children.
        exhibits: exhibit -> its runs under their labels.
        settings: exhibit -> its settings at this scale.
        gpus: GPUs of one machine on which its runs are trained; 0 where they are trained on CPUs.
    """

    suite: Suite
    layout: Layout
    runs: dict[str, Planned]
    exhibits: dict[str, list[ArmRun]]
    settings: dict[str, ExhibitSettings]
    key_by_identity: dict[str, str]
    source: str = ""
    gpus: int = 0

    @property
    def machine(self) -> str:
        """The kind of machine that estimates are for: "gpu" or "cpu"."""
        return "gpu" if self.gpus else "cpu"

    def key(self, spec: RunSpec) -> str:
        return self.key_by_identity[spec.identity]

    def keys_of(self, name: str) -> list[str]:
        """Keys of an exhibit's own runs, without repetition, in its order."""
        return list(dict.fromkeys(self.key(arm_run.spec) for arm_run in self.exhibits[name]))

    def to_train(self) -> list[Planned]:
        """Runs that must be executed, parents first: missing ones, and parents whose weights are gone."""
        needed: set[str] = set()
        for name in self.exhibits:
            for key in self.keys_of(name):
                if self.runs[key].state == MISSING:
                    self._need(self.runs[key], needed)
        return [run for key, run in self.runs.items() if key in needed]

    def _need(self, run: Planned, needed: set[str]) -> None:
        if run.key in needed:
            return
        needed.add(run.key)
        parent = run.spec.parent_spec
        if parent is None:
            return
        planned = self.runs[self.key(parent)]
        if planned.state == MISSING:
            self._need(planned, needed)
        elif absent := [name for name in run.spec.needs() if not self.layout.artefact(planned.used, name).exists()]:
            planned.state, planned.why = MISSING, f"its {', '.join(absent)} are needed again by {run.spec.label()}"
            planned.used = planned.key
            self._need(planned, needed)


def make(
    suite: Suite,
    names: Sequence[str] = (),
    *,
    source: str = "",
    layout: Layout | None = None,
    gpus_of_node: int | None = None,
    more: Mapping[str, int] | None = None,
) -> Plan:
    """Plans the exhibits `names` (all of the scale when empty).

    Args:
        suite: the scale.
        names: exhibits or papers.
        source: how the scale was named, a name or a path.
        layout: where its results lie, if not under ``results/<scale>``.
        gpus_of_node: GPUs of one machine of the cluster that will train; ``None`` where this machine does.
        more: exhibit -> number of seeds, where it is more than the scale file says; those that the results note if ``None``.

    Raises:
        UserError: wrong settings or names, or GPUs are asked for that the cluster does not have.
    """
    with gc_disabled():
        exhibit.check(suite)
        place = layout or Layout.of(suite.scale)
        plan = _planned(suite, names, source, place, further_seeds(suite, place) if more is None else more)
    plan.gpus = gpus_of(suite, gpus_of_node)
    return plan


@contextmanager
def gc_disabled() -> Iterator[None]:
    """No garbage collection: a plan makes hundreds of thousands of objects without cycles, and looking for some would
    take half of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _planned(suite: Suite, names: Sequence[str], source: str, layout: Layout, more: Mapping[str, int]) -> Plan:
    plan = Plan(suite, layout, {}, {}, {}, {}, source)
    for selected in exhibit.select(suite, names):
        settings = exhibit.settings_of(suite, selected)
        if more.get(selected.name, 0) > settings.seeds:
            settings = settings.model_copy(update={"seeds": more[selected.name]})
        plan.settings[selected.name] = settings
        plan.exhibits[selected.name] = exhibit.runs_of(suite, selected, settings)
        for arm_run in plan.exhibits[selected.name]:
            for spec in reversed(list(arm_run.spec.chain())):
                _add(plan, spec, selected.name)
    present = keys_in(layout.runs)
    failed = failures_in(layout.runs)
    older: dict[str, list[str]] = {}
    for key in present:
        older.setdefault(key.split("-")[0], []).append(key)
    for run in plan.runs.values():
        _set_state(run, suite, layout, present, failed, older.get(run.spec.identity, []))
    return plan


def further_seeds(suite: Suite, layout: Layout) -> dict[str, int]:
    """Exhibit -> number of its seeds, of those that were given more than the scale file says, at a scale with looks.

    Raises:
        UserError: the file holds anything else.
    """
    if not suite.looks or not layout.seeds.exists():
        return {}
    try:
        content = json.loads(layout.seeds.read_text(encoding="utf-8"))
        known = {str(name): n for name, n in content.items()}
    except (ValueError, AttributeError) as error:
        raise UserError(f"{layout.seeds}: expected exhibits and numbers of seeds ({error}); delete it") from error
    for name, n in known.items():
        if type(n) is not int or not 1 <= n <= BLOCK:
            raise UserError(f"{layout.seeds}: {name}: expected a number of seeds from 1 to {BLOCK}, found {n!r}")
    return known


def give_seeds(plan: Plan, more: Mapping[str, int]) -> None:
    """Notes exhibits that get further seeds, for all later plans of these results; nobody's seeds become fewer."""
    known = further_seeds(plan.suite, plan.layout)
    whole = {name: max(known.get(name, 0), more.get(name, 0)) for name in sorted({*known, *more})}
    checkpoint.write_text(plan.layout.seeds, json.dumps(whole, indent=1) + "\n")


def _add(plan: Plan, spec: RunSpec, name: str) -> None:
    key = plan.key_by_identity.get(spec.identity)
    if key is None:
        key = plan.key_by_identity[spec.identity] = key_of(spec)
        plan.runs[key] = Planned(key, spec, used=key)
    if name not in plan.runs[key].exhibits:
        plan.runs[key].exhibits.append(name)


def _set_state(
    run: Planned, suite: Suite, layout: Layout, present: set[str], failed: set[str], older: list[str]
) -> None:
    if run.key in present:
        run.state, run.why = DONE, ""
    elif older and suite.older_code == "accept":
        run.used = max(older, key=lambda key: layout.record(key).stat().st_mtime)
        run.state, run.why = OLDER, "trained by older code, accepted at this scale"
    elif older:
        run.why = "the code that trains it has changed"
    elif run.key in failed:
        run.why = "failed before"


def gpus_of(suite: Suite, gpus_of_node: int | None = None) -> int:
    """GPUs of one machine that train, without torch: by the scale file, and by the cluster's profile or the device files.

    Raises:
        UserError: the scale asks for GPUs and the cluster has none.
    """
    if suite.device == "cpu":
        return 0
    available = len(devices.visible()) if gpus_of_node is None else gpus_of_node
    if suite.device == "auto" or available:
        return available
    if gpus_of_node is not None:
        raise UserError("device: cuda is asked for, and the nodes of the profile have no GPU: see its machine.yaml")
    return 1  # the run itself says what this machine lacks


def notes(plan: Plan) -> list[str]:
    """What a person should know beside the plan, a line each: papers without settings at this scale, old records."""
    lines = []
    papers = dict.fromkeys(name.split("/")[0] for name in plan.exhibits)
    known = {*plan.suite.common, *(name.split("/")[0] for name in plan.suite.exhibits)}
    # A scale that leaves a paper of the suite at its protocol leaves others there on purpose too.
    reduced = known >= {found.paper for found in exhibit.registry().values() if found.module.startswith("bench.")}
    for paper in papers:
        if reduced and paper not in known:
            lines.append(
                f"scale {plan.suite.scale} has no settings for paper '{paper}': its exhibits are planned at their own "
                f"defaults; put what should be smaller below `common: {{{paper}: …}}` in a scale file of your own"
            )
    unused = keys_in(plan.layout.runs) - set(plan.runs)
    if older := [key for key in unused if is_older(plan.layout.record(key))]:
        lines.append(
            f"{plan.layout.runs}: {len(older)} records are of an older version of the suite and are not used; move the "
            "folder aside, or read them with the version that wrote them"
        )
    return lines


def total(runs: Iterable[Planned]) -> dict[str, float]:
    """Summed estimate: amount by unit, flops, hours by machine."""
    sums = {"samples": 0.0, "tokens": 0.0, "flops": 0.0, "hours_cpu": 0.0, "hours_gpu": 0.0}
    for run in runs:
        cost = run.cost
        sums[cost.unit] += cost.amount
        sums["flops"] += cost.flops
        sums["hours_cpu"] += hours(cost, "cpu")
        sums["hours_gpu"] += hours(cost, "gpu")
    return sums


def check_budget(plan: Plan, budget_hours: float | None, free_bytes: int | None = None) -> None:
    """Stops before a day of machine time, or more disk than is free, is spent unasked.

    Args:
        plan: the plan.
        budget_hours: machine time that is allowed; a day if ``None``.
        free_bytes: on the disk of the results, which is asked if ``None``.

    Raises:
        UserError: the estimate and what would allow it.
    """
    if free_bytes is None:
        free_bytes = shutil.disk_usage(paths.existing(plan.layout.root)).free
    todo = plan.to_train()
    if plan.gpus and plan.suite.gpus_per_job > plan.gpus:
        raise UserError(f"gpus_per_job: {plan.suite.gpus_per_job}, and a machine has {plan.gpus} GPUs; ask for fewer")
    need = total(todo)[f"hours_{plan.machine}"]
    disk = disk_bytes(plan, todo)
    if need > (24 if budget_hours is None else budget_hours):
        machine = "one GPU" if plan.gpus else "two cores"
        none = "" if plan.gpus or plan.suite.device == "cpu" else f" (no GPU here: {devices.state()})"
        raise UserError(
            f"{len(todo)} runs need about {need:,.0f} hours on {machine}{none} and {disk / 1e9:,.1f} GB; "
            f"allow it with BUDGET={need:.0f}"
        )
    if disk > free_bytes:
        raise UserError(
            f"about {disk / 1e9:,.1f} GB are needed, {free_bytes / 1e9:,.1f} GB are free; "
            "free some, set BENCH_RESULTS to a larger disk, or `keep: nothing` in the scale file"
        )


def disk_bytes(plan: Plan, todo: Sequence[Planned]) -> float:
    """Upper estimate of what the runs leave and need to resume: records, and four bytes for each kept number."""
    size = 0.0
    for run in todo:
        weights = 4.0 * float(getattr(run.spec, "parameters", lambda: 1e6)())
        kept = len(run.spec.keeps()) if plan.suite.keep != "nothing" else 0
        size += 2e5 + weights * kept
    # Resume states (weights and optimiser moments) exist for running jobs only.
    return size
