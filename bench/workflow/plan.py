"""From exhibits to runs: which there are, which are missing and why, and what they cost. Without torch."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from bench import exhibit
from bench.config import Suite
from bench.errors import UserError
from bench.exhibit import ArmRun, Exhibit, ExhibitSettings
from bench.paths import Layout
from bench.record import failures_in, keys_in
from bench.run import Cost, RunSpec
from bench.workflow import devices
from bench.workflow.keys import key_of

DONE, MISSING, OLDER = "done", "missing", "older code"


@lru_cache(maxsize=1)
def throughput() -> dict[str, dict[str, Any]]:
    """Measured or assumed FLOP/s by kind of work and machine, from ``bench/throughput.yaml``."""
    return yaml.safe_load((Path(__file__).parent / "throughput.yaml").read_text())


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
        wanted: set[str] = set()
        for name in self.exhibits:
            for key in self.keys_of(name):
                if self.runs[key].state == MISSING:
                    self._want(self.runs[key], wanted)
        return [run for key, run in self.runs.items() if key in wanted]

    def _want(self, run: Planned, wanted: set[str]) -> None:
        if run.key in wanted:
            return
        wanted.add(run.key)
        parent = run.spec.parent_spec
        if parent is None:
            return
        planned = self.runs[self.key(parent)]
        if planned.state == MISSING:
            self._want(planned, wanted)
        elif absent := [name for name in run.spec.needs() if not self.layout.artefact(planned.used, name).exists()]:
            planned.state, planned.why = MISSING, f"its {', '.join(absent)} are needed again by {run.spec.label()}"
            planned.used = planned.key
            self._want(planned, wanted)


def make(
    suite: Suite,
    names: Sequence[str] = (),
    *,
    source: str = "",
    layout: Layout | None = None,
    gpus_of_node: int | None = None,
) -> Plan:
    """Plans the exhibits `names` (all of the scale when empty).

    Args:
        suite: the scale.
        names: exhibits or papers.
        source: how the scale was named, a name or a path.
        layout: where its results lie, if not under ``results/<scale>``.
        gpus_of_node: GPUs of one machine of the cluster that will train; ``None`` where this machine does.

    Raises:
        UserError: wrong settings or names, or GPUs are asked for that the cluster does not have.
    """
    with gc_disabled():
        exhibit.check(suite)
        made = _planned(suite, names, source, layout or Layout.of(suite.scale))
    made.gpus = gpus_of(suite, gpus_of_node)
    return made


@contextmanager
def gc_disabled() -> Iterator[None]:
    """A plan makes hundreds of thousands of objects and no cycles; looking for some would take half of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _planned(suite: Suite, names: Sequence[str], source: str, layout: Layout) -> Plan:
    plan = Plan(suite, layout, {}, {}, {}, {}, source)
    for chosen in exhibit.select(suite, names):
        settings = exhibit.settings_of(suite, chosen)
        plan.settings[chosen.name] = settings
        plan.exhibits[chosen.name] = exhibit.runs_of(suite, chosen, settings)
        for arm_run in plan.exhibits[chosen.name]:
            for spec in reversed(list(arm_run.spec.chain())):
                _add(plan, spec, chosen)
    present = keys_in(layout.runs)
    failed = failures_in(layout.runs)
    older: dict[str, list[str]] = {}
    for key in present:
        older.setdefault(key.split("-")[0], []).append(key)
    for run in plan.runs.values():
        _set_state(run, suite, layout, present, failed, older.get(run.spec.identity, []))
    return plan


def _add(plan: Plan, spec: RunSpec, chosen: Exhibit) -> None:
    key = plan.key_by_identity.get(spec.identity)
    if key is None:
        key = plan.key_by_identity[spec.identity] = key_of(spec)
        plan.runs[key] = Planned(key, spec, used=key)
    if chosen.name not in plan.runs[key].exhibits:
        plan.runs[key].exhibits.append(chosen.name)


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


def check_budget(plan: Plan, budget_hours: float | None, free_bytes: int) -> None:
    """Stops before a day of machine time, or more disk than is free, is spent unasked.

    Raises:
        UserError: the estimate and what would allow it.
    """
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
