"""From exhibits to runs: which there are, which are missing and why, what they cost, how they are batched. No torch."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from bench import checkpoint, exhibit, provenance
from bench.config import Suite
from bench.errors import UserError
from bench.exhibit import Exhibit, ExhibitSettings, Member
from bench.paths import Layout
from bench.record import failures_in, keys_in
from bench.run import Cost, RunSpec

MOST_JOBS = 500
"""Longer jobs are made where there would be more: Snakemake takes milliseconds for each, and few machines have as many
cores."""
FEW_JOBS = 10
"""For each core; with more, the last jobs to end matter little."""
LONGER = (1.05, 1.1, 1.15, 1.2, 1.25)
"""Times ``batch_minutes``: lengths of jobs to choose from."""
DONE, MISSING, OLDER = "done", "missing", "older code"


def key_of(spec: RunSpec) -> str:
    """``<identity>-<code>``: the specification with its parents, and the code that trains them."""
    modules = {module for ancestor in spec.chain() for module in (ancestor.trainer, *ancestor.code())}
    return f"{spec.identity}-{provenance.fingerprint(*sorted(modules))}"


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
        exhibits: whom it feeds, directly or through its children.
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


@dataclass(frozen=True)
class Batch:
    """Runs that one job executes, parents first.

    Attributes:
        name: hash of its keys.
        keys: runs in order.
        after: batches that leave what this one starts from.
        minutes: estimate on this kind of machine.
        memory_mb: peak of the largest run.
        gpus: that it makes use of; 0 on the CPU.
        whole_machine: whether no other job may run beside it.
    """

    name: str
    keys: tuple[str, ...]
    after: tuple[str, ...]
    minutes: float
    memory_mb: int
    gpus: int
    whole_machine: bool


@dataclass
class Plan:
    """Everything that a scale asks for.

    Attributes:
        runs: key -> run, parents before children.
        members: exhibit -> its runs under their labels.
        settings: exhibit -> its settings at this scale.
    """

    suite: Suite
    layout: Layout
    runs: dict[str, Planned]
    members: dict[str, list[Member]]
    settings: dict[str, ExhibitSettings]
    key_by_identity: dict[str, str]
    source: str = ""

    def key(self, spec: RunSpec) -> str:
        return self.key_by_identity[spec.identity]

    def keys_of(self, name: str) -> list[str]:
        """Keys of an exhibit's own runs, without repetition, in its order."""
        return list(dict.fromkeys(self.key(member.spec) for member in self.members[name]))

    def to_train(self) -> list[Planned]:
        """Runs that must be executed, parents first: missing ones, and parents whose weights are gone."""
        wanted: set[str] = set()
        for name in self.members:
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


def make(suite: Suite, names: Sequence[str] = (), *, source: str = "", layout: Layout | None = None) -> Plan:
    """Plans the exhibits `names` (all of the scale when empty).

    Args:
        suite: the scale.
        names: exhibits or papers.
        source: how the scale was named, a name or a path.
        layout: where its results lie, if not under ``results/<scale>``.

    Raises:
        UserError: wrong settings or names.
    """
    with no_search_for_cycles():
        exhibit.check(suite)
        return _made(suite, names, source, layout or Layout.of(suite.scale))


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """A plan makes hundreds of thousands of objects and no cycles; looking for some would take half of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _made(suite: Suite, names: Sequence[str], source: str, layout: Layout) -> Plan:
    plan = Plan(suite, layout, {}, {}, {}, {}, source)
    for chosen in exhibit.select(suite, names):
        settings = exhibit.settings_of(suite, chosen)
        plan.settings[chosen.name] = settings
        plan.members[chosen.name] = exhibit.members_of(suite, chosen, settings)
        for member in plan.members[chosen.name]:
            for spec in reversed(list(member.spec.chain())):
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


def machine_kind(suite: Suite) -> str:
    """ "gpu" or "cpu", for estimates: without torch, by what the configuration asks for and the driver's device file."""
    return "gpu" if suite.device == "cuda" or (suite.device == "auto" and Path("/dev/nvidia0").exists()) else "cpu"


def gpus_for(specs: Iterable[RunSpec], suite: Suite, offered: int) -> int:
    """GPUs that a job of these runs makes use of, if it is offered so many; 0 on the CPU."""
    return 0 if machine_kind(suite) == "cpu" else max((spec.gpus(offered) for spec in specs), default=0)


def batches(plan: Plan, *, cores: int | None = None) -> list[Batch]:
    """Joins runs into jobs of about ``batch_minutes``, or longer ones where these are too many; the longest first.

    A family of parents and children stays together if it fits. Jobs on the CPU are up to a quarter longer where that
    lets the `cores` (of this machine, unless given) end together: three equal jobs leave one of two cores idle.
    """
    machine = machine_kind(plan.suite)
    todo = {run.key: run for run in plan.to_train()}
    minutes = {key: 60 * hours(run.cost, machine) for key, run in todo.items()}
    root: dict[str, str] = {}
    families: dict[str, list[str]] = {}
    for key, run in todo.items():
        parent = run.spec.parent_spec
        above = None if parent is None else plan.key(parent)
        root[key] = root[above] if above in todo and above is not None else key
        families.setdefault(root[key], []).append(key)

    def joined(limit: float) -> list[list[str]]:
        return _joined(plan, todo, families.values(), minutes, limit)

    limit, most = plan.suite.batch_minutes, sum(minutes.values())
    while len(jobs := joined(limit)) > MOST_JOBS and limit < most:
        limit *= 4
    places = max(1, (cores or os.cpu_count() or 1) // plan.suite.threads)
    if machine == "cpu" and len(jobs) <= FEW_JOBS * places:
        choices = [jobs, *(joined(limit * longer) for longer in LONGER)]
        jobs = min(choices, key=lambda jobs: _end([sum(minutes[key] for key in job) for job in jobs], places))
    names = {key: hashlib.sha256(" ".join(job).encode()).hexdigest()[:12] for job in jobs for key in job}
    made = []
    for job in jobs:
        parents = [todo[key].spec.parent_spec for key in job]
        before = {names[plan.key(parent)] for parent in parents if parent is not None and plan.key(parent) in todo}
        own = names[job[0]]
        memory = max(todo[key].cost.memory_mb for key in job)
        gpus = gpus_for([todo[key].spec for key in job], plan.suite, plan.suite.gpus_per_job)
        spent = sum(minutes[key] for key in job)
        whole = any(todo[key].spec.whole_machine for key in job)
        made.append(Batch(own, tuple(job), tuple(sorted(before - {own})), spent, memory, gpus, whole))
    return sorted(made, key=lambda batch: -batch.minutes)


def _end(lengths: Iterable[float], places: int) -> float:
    """When all jobs are done, the longest first, as if none waited for another."""
    busy = [0.0] * places
    for length in sorted(lengths, reverse=True):
        busy[busy.index(min(busy))] += length
    return max(busy)


def _joined(
    plan: Plan, todo: Mapping[str, Planned], families: Iterable[list[str]], minutes: Mapping[str, float], limit: float
) -> list[list[str]]:
    """Puts families that are alike into one job up to so many minutes; of one that is too long, the runs without
    children."""
    device = "cuda" if machine_kind(plan.suite) == "gpu" else "cpu"
    with_children = {plan.key(parent) for run in todo.values() if (parent := run.spec.parent_spec) is not None}
    jobs: list[list[str]] = []
    waiting: dict[Any, tuple[list[str], float]] = {}

    def put(keys: list[str], above: str | None) -> None:
        first = todo[keys[0]].spec
        # Runs that wait for different parents never share a job, so that no two jobs wait for each other.
        shelf = (first.trainer, first.company_on(device), gpus_for([first], plan.suite, plan.suite.gpus_per_job), above)
        total = sum(minutes[key] for key in keys)
        current, spent = waiting.get(shelf, ([], 0.0))
        if current and spent + total > limit:
            jobs.append(current)
            current, spent = [], 0.0
        current.extend(keys)
        waiting[shelf] = (current, spent + total)

    for family in families:
        if len(family) == 1 or sum(minutes[key] for key in family) <= limit:
            put(family, None)
            continue
        for key in family:
            parent = todo[key].spec.parent_spec
            if todo[key].spec.company_on(device) is not None:
                # All of one generation train together, and wait for older generations only.
                put([key], f"generation {sum(1 for _ in todo[key].spec.chain())}")
            elif key in with_children or parent is None:
                jobs.append([key])
            else:
                put([key], plan.key(parent))
    return jobs + [current for current, _ in waiting.values()]


def freeze(plan: Plan) -> Path:
    """Writes the list of missing runs in batches that Snakemake works from, and returns its path.

    A batch that was done before and misses runs again, since records were deleted, is not done any more.
    """
    missing = batches(plan)
    for batch in missing:
        plan.layout.marker(batch.name).unlink(missing_ok=True)
    content = {
        "scale": plan.suite.scale,
        "source": plan.source or plan.suite.scale,
        "threads": plan.suite.threads,
        "judging": provenance.fingerprint("bench.judge"),
        "batches": [vars(batch) for batch in missing],
        "exhibits": {
            name: {
                "kind": exhibit.registry()[name].kind,
                "title": exhibit.registry()[name].title,
                "caption": exhibit.registry()[name].caption,
                "file": exhibit.registry()[name].file,
                "keys": [plan.runs[key].used for key in plan.keys_of(name)],
                "code": drawing_code(name),
                "settings": plan.settings[name].model_dump(mode="json"),
            }
            for name in plan.members
        },
    }
    checkpoint.write_text(plan.layout.plan, json.dumps(content, indent=1) + "\n")
    return plan.layout.plan


def drawing_code(name: str) -> str:
    """Fingerprint of what turns an exhibit's records into its table or figure."""
    chosen = exhibit.registry()[name]
    published = Path(__file__).parent / chosen.paper / "published.csv"
    numbers = checkpoint.sha256(published)[:8] if published.exists() else ""
    return provenance.fingerprint(chosen.module, "bench.report.figure", "bench.report.table", "bench.stats") + numbers


def frozen(path: Path) -> dict[str, Any]:
    """Reads the frozen plan.

    Raises:
        UserError: it has not been made.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no plan; make it with `python -m bench plan --scale S --freeze`") from None


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
    need = total(todo)[f"hours_{machine_kind(plan.suite)}"]
    disk = disk_bytes(plan, todo)
    if need > (24 if budget_hours is None else budget_hours):
        raise UserError(
            f"{len(todo)} runs need about {need:,.0f} hours on this machine and {disk / 1e9:,.1f} GB; "
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
