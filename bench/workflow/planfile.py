"""The frozen plan, which is written before Snakemake starts, and its look-ups for the rules. Imports no torch or pandas."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from bench import checkpoint, exhibit, paths
from bench.errors import UserError
from bench.paths import Layout
from bench.workflow import keys
from bench.workflow.jobs import jobs_of
from bench.workflow.plan import Plan, Planned

WHOLE_MACHINE = 1000
"""Amount of the resource `machine` that there is on one machine; a job that may share the machine takes 1."""
AT_ONCE = 1_000_000
"""Priority over all training, in minutes: exhibits are drawn while others are still trained."""
SUFFIXES = {"figure": ("csv", "pdf", "png"), "table": ("csv", "tex", "md")}


@dataclass(frozen=True)
class PlanFile:
    """Look-ups in the frozen plan for the Snakemake rules.

    Attributes:
        root: ``results/<scale>``.
        content: what `freeze` wrote.
    """

    root: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, path: str) -> PlanFile:
        """Reads ``results/<scale>/plan.json``.

        Raises:
            UserError: the plan has not been made.
        """
        return cls(Path(path).parent, frozen(Path(path)))

    @property
    def scale(self) -> str:
        """What ``--scale`` gets: the name or path that the plan was made for."""
        return self.content["source"]

    def path(self, *parts: str) -> str:
        """A file below the results."""
        return str(self.root.joinpath(*parts))

    def project_file(self, name: str) -> str:
        """A file of the project, from whatever folder Snakemake is called."""
        from snakemake.io import local

        return local(str(paths.PROJECT / name))

    @cached_property
    def _jobs(self) -> dict[str, dict[str, Any]]:
        return {job["name"]: job for job in self.content["jobs"]}

    @cached_property
    def _job_of(self) -> dict[str, str]:
        return {key: job["name"] for job in self.content["jobs"] for key in job["keys"]}

    def marker(self, job: str) -> str:
        """Marker file: a job, or "data", is done."""
        return str(Layout(self.scale, self.root).marker(job))

    def markers(self) -> list[str]:
        """Of all jobs: what is missing, whether or not exhibits have been drawn without it."""
        return [self.marker(job) for job in self._jobs]

    def before(self, job: str) -> list[str]:
        """Markers of the jobs whose artefacts this one starts from."""
        return [self.marker(name) for name in self._jobs[job]["after"]]

    def job(self, name: str) -> dict[str, Any]:
        return self._jobs[name]

    def records(self, wildcards: Any) -> list[str]:
        """What an exhibit waits for: jobs with its missing runs, and the records that are there already."""
        keys = self.content["exhibits"][wildcards.exhibit]["keys"]
        missing = {self._job_of[key] for key in keys if key in self._job_of}
        present = [self.path("runs", f"{key}.json") for key in keys if key not in self._job_of]
        return sorted(self.marker(job) for job in missing) + present

    def version(self, wildcards: Any) -> str:
        """Changes when an exhibit must be drawn again: its runs, its settings or the code that draws it."""
        text = json.dumps(self.content["exhibits"][wildcards.exhibit], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def title(self, wildcards: Any) -> str:
        return self.content["exhibits"][wildcards.exhibit]["title"]

    def caption(self, wildcards: Any) -> str:
        return self.content["exhibits"][wildcards.exhibit]["caption"]

    def declared(self, wildcards: Any) -> str:
        """The file that declares the exhibit: its code, for the browsable report."""
        return self.content["exhibits"][wildcards.exhibit]["file"]

    def settings(self, wildcards: Any) -> str:
        """The exhibit's settings at this scale, ``key = value`` each."""
        settings = self.content["exhibits"][wildcards.exhibit]["settings"]
        return "; ".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())

    def category(self, wildcards: Any) -> str:
        return wildcards.exhibit.split("/")[0]

    def labels(self, wildcards: Any) -> dict[str, str]:
        return {"exhibit": wildcards.exhibit.split("/")[1], "title": self.title(wildcards)}

    def names(self, kind: str | None = None) -> list[str]:
        return [name for name, facts in self.content["exhibits"].items() if kind in (None, facts["kind"])]

    def constraint(self, kind: str | None = None) -> str:
        """Regular expression of the exhibits of a kind, for wildcards."""
        return "|".join(self.names(kind)) or "none"

    def exhibit_files(self) -> list[str]:
        return [
            self.path("exhibits", f"{name}.{suffix}")
            for name, facts in self.content["exhibits"].items()
            for suffix in SUFFIXES[facts["kind"]]
        ]

    def tables(self) -> list[str]:
        return [self.path("tables", f"{name}.parquet") for name in self.names()]

    def share(self, job: str) -> int:
        """Of the resource `machine`: all of it for a job that no other job may run beside."""
        return WHOLE_MACHINE if self._jobs[job]["whole_machine"] else 1

    def priority(self, job: str) -> float:
        """Minutes until all that waits for the job could be done. Snakemake starts the highest first, so that the last
        jobs to end are short."""
        return self._chains[job]

    @cached_property
    def _chains(self) -> dict[str, float]:
        after = {name: job["after"] for name, job in self._jobs.items()}
        chains = {name: job["minutes"] for name, job in self._jobs.items()}
        for name in reversed([*TopologicalSorter(after).static_order()]):
            for parent in after[name]:
                chains[parent] = max(chains[parent], self._jobs[parent]["minutes"] + chains[name])
        return chains

    def runtime(self, job: str, attempt: int) -> int:
        """Minutes to ask for: three times the estimate and a start, doubled with each attempt."""
        return int((3 * self._jobs[job]["minutes"] + 10) * 2 ** (attempt - 1))


def freeze(plan: Plan) -> Path:
    """Writes the list of missing runs in jobs that Snakemake works from, and returns its path.

    A job that was done before and misses runs again, since records were deleted, is not done any more.
    """
    jobs = jobs_of(plan)
    for job in jobs:
        plan.layout.marker(job.name).unlink(missing_ok=True)
    content = {
        "scale": plan.suite.scale,
        "source": plan.source or plan.suite.scale,
        "threads": plan.suite.threads,
        "machine": plan.machine,
        "judging": keys.fingerprint("bench.report.judge"),
        "jobs": [vars(job) for job in jobs],
        "exhibits": {name: _facts(plan, name) for name in plan.exhibits},
    }
    checkpoint.write_text(plan.layout.plan, json.dumps(content, indent=1) + "\n")
    return plan.layout.plan


def _facts(plan: Plan, name: str) -> dict[str, Any]:
    declared = exhibit.registry()[name]
    return {
        "kind": declared.kind,
        "title": declared.title,
        "caption": declared.caption,
        "file": declared.file,
        "keys": [plan.runs[key].used for key in plan.keys_of(name)],
        "code": drawing_code(name),
        "settings": plan.settings[name].model_dump(mode="json"),
    }


def drawing_code(name: str) -> str:
    """Fingerprint of what turns an exhibit's records into its table or figure."""
    declared = exhibit.registry()[name]
    published = exhibit.paper_file(declared.paper, "published.csv")
    numbers = "" if published is None else checkpoint.sha256(published)[:8]
    return keys.fingerprint(declared.module, "bench.report.figure", "bench.report.table", "bench.stats") + numbers


def frozen(path: Path) -> dict[str, Any]:
    """Reads the frozen plan.

    Raises:
        UserError: it has not been made, or is not readable.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no plan; make it with `python -m bench plan --scale S --freeze`") from None
    except ValueError as error:
        raise UserError(f"{path}: not a plan ({error}); make it again with `plan --freeze`") from error


def frozen_job(plan: Plan, name: str) -> dict[str, Any]:
    """A job of the frozen plan, as `bench.workflow.jobs.Job` says.

    Raises:
        UserError: the frozen plan has no such job.
    """
    path = plan.layout.plan
    job = next((job for job in frozen(path)["jobs"] if job["name"] == name), None)
    if job is None:
        raise UserError(f"{path}: has no job {name}; make the plan again with `plan --freeze`")
    return job


def runs_of_job(plan: Plan, name: str) -> list[Planned]:
    """The runs of a job of the frozen plan that still have to be trained.

    Raises:
        UserError: the frozen plan has no such job, or is of other code or settings than `plan`.
    """
    path, keys = plan.layout.plan, frozen_job(plan, name)["keys"]
    if unknown := [key for key in keys if key not in plan.runs]:
        raise UserError(f"{path}: is of other code or settings (run {unknown[0]}); make the plan again")
    missing = {run.key for run in plan.to_train()}
    return [plan.runs[key] for key in keys if key in missing]
