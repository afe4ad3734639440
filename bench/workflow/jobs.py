"""From missing runs to jobs: the runs that one process executes one after the other, and what a job asks of a machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.run import RunSpec
from bench.workflow.plan import Plan, Planned, hours

MOST_JOBS = 500
"""Longer jobs are made where there would be more: Snakemake takes milliseconds for each, and few machines have as many
cores."""


@dataclass(frozen=True)
class Job:
    """Runs that one process executes, parents first.

    Attributes:
        name: hash of its keys.
        keys: runs in order.
        after: jobs that leave what this one starts from.
        minutes: estimate on this kind of machine.
        memory_mb: peak of the largest run.
        gpus: number that it uses; 0 on the CPU.
        whole_machine: whether no other job may run beside it.
    """

    name: str
    keys: tuple[str, ...]
    after: tuple[str, ...]
    minutes: float
    memory_mb: int
    gpus: int
    whole_machine: bool


def gpus_for(specs: Iterable[RunSpec], offered: int) -> int:
    """GPUs, of the `offered` ones, that a job of these runs uses."""
    return max((spec.gpus(offered) for spec in specs), default=0)


def offered_to(plan: Plan) -> int:
    """GPUs that a job may use; 0 where the plan is for CPUs."""
    return min(plan.suite.gpus_per_job, plan.gpus)


def jobs_of(plan: Plan) -> list[Job]:
    """The jobs of all missing runs, of about ``job_minutes`` each, the longest first."""
    missing = {run.key: run for run in plan.to_train()}
    minutes = {key: 60 * hours(run.cost, plan.machine) for key, run in missing.items()}
    limit, total = plan.suite.job_minutes, sum(minutes.values())
    while len(packed := _packed(plan, missing, minutes, limit)) > MOST_JOBS and limit < total:
        limit *= 4
    names = {key: _name(keys) for keys in packed for key in keys}
    jobs = []
    for keys in packed:
        runs = [missing[key] for key in keys]
        parents = {plan.key(run.spec.parent_spec) for run in runs if run.spec.parent_spec is not None}
        after = {names[parent] for parent in parents & set(missing)} - {_name(keys)}
        jobs.append(
            Job(
                name=_name(keys),
                keys=tuple(keys),
                after=tuple(sorted(after)),
                minutes=sum(minutes[key] for key in keys),
                memory_mb=max(run.cost.memory_mb for run in runs),
                gpus=gpus_for([run.spec for run in runs], offered_to(plan)),
                whole_machine=any(run.spec.whole_machine for run in runs),
            )
        )
    return sorted(jobs, key=lambda job: -job.minutes)


def _name(keys: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(keys).encode()).hexdigest()[:12]


def _families(plan: Plan, missing: Mapping[str, Planned]) -> list[list[str]]:
    """Missing runs with their missing ancestors and descendants, parents first."""
    root: dict[str, str] = {}
    families: dict[str, list[str]] = {}
    for key, run in missing.items():
        parent = None if run.spec.parent_spec is None else plan.key(run.spec.parent_spec)
        root[key] = key if parent is None or parent not in missing else root[parent]
        families.setdefault(root[key], []).append(key)
    return list(families.values())


def _packed(plan: Plan, missing: Mapping[str, Planned], minutes: Mapping[str, float], limit: float) -> list[list[str]]:
    """Packs families of one kind into jobs of at most `limit` minutes.

    A family that is longer is split: each run with children is a job of its own, and those without children are packed
    by their parent, so that no two jobs wait for each other.
    """
    with_children = {plan.key(run.spec.parent_spec) for run in missing.values() if run.spec.parent_spec is not None}
    full: list[list[str]] = []
    filling: dict[tuple[str, int, str | None], list[str]] = {}

    def put(keys: list[str], parent: str | None) -> None:
        first = missing[keys[0]].spec
        bin_of = (first.trainer, gpus_for([first], offered_to(plan)), parent)
        current = filling.setdefault(bin_of, [])
        if current and sum(minutes[key] for key in [*current, *keys]) > limit:
            full.append(current)
            current = filling[bin_of] = []
        current.extend(keys)

    for family in _families(plan, missing):
        if len(family) == 1 or sum(minutes[key] for key in family) <= limit:
            put(family, None)
            continue
        for key in family:
            parent = missing[key].spec.parent_spec
            if key in with_children or parent is None:
                full.append([key])
            else:
                put([key], plan.key(parent))
    return full + list(filling.values())
