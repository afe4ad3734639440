"""Where everything lies under ``results/``; nothing else in the suite builds these paths."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
SEEDS = "seeds.json"


def results_root() -> Path:
    """``$BENCH_RESULTS``, or ``results`` in the current folder."""
    return Path(os.environ.get("BENCH_RESULTS") or "results")


def data_root() -> Path:
    """``$BENCH_DATA``, or ``data`` in the current folder."""
    return Path(os.environ.get("BENCH_DATA") or "data")


def reference_root() -> Path:
    """``$BENCH_REFERENCE``, or ``results/reference`` of the project: committed records."""
    return Path(os.environ.get("BENCH_REFERENCE") or PROJECT / "results" / "reference")


def existing(path: Path) -> Path:
    """The path itself, or the nearest of the folders above it that exists."""
    path = path.absolute()
    while not os.path.exists(path):  # Path.exists raises where a folder above may not be searched
        path = path.parent
    return path


@dataclass(frozen=True)
class Layout:
    """The folders of one scale."""

    scale: str
    root: Path

    @classmethod
    def of(cls, scale: str) -> Layout:
        return cls(scale, results_root() / scale)

    @property
    def runs(self) -> Path:
        """Records, ``<key>.json``."""
        return self.root / "runs"

    @property
    def artefacts(self) -> Path:
        """Weights that children and verification need, ``<key>/<name>.safetensors``."""
        return self.root / "artefacts"

    @property
    def scratch(self) -> Path:
        """What an interrupted run goes on from; Snakemake does not know it, so it survives failed jobs."""
        return self.root / "scratch"

    @property
    def tables(self) -> Path:
        """Long tables of the exhibits, ``<paper>/<name>.parquet``."""
        return self.root / "tables"

    @property
    def exhibits(self) -> Path:
        return self.root / "exhibits"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def plan(self) -> Path:
        """The frozen list of missing runs, by job."""
        return self.root / "plan.json"

    @property
    def seeds(self) -> Path:
        """Exhibit -> number of its seeds, of those that were given more than the scale file says."""
        return self.root / SEEDS

    @property
    def decisions(self) -> Path:
        """What each round of `decide` was expected to decide, and what it decided."""
        return self.root / "decisions.json"

    def marker(self, job: str) -> Path:
        """Marker file: a job, or "data", is done."""
        return self.root / "jobs" / f"{job}.done"

    def record(self, key: str) -> Path:
        return self.runs / f"{key}.json"

    def failure(self, key: str) -> Path:
        return self.runs / f"{key}.failed"

    def artefact(self, key: str, name: str) -> Path:
        return self.artefacts / key / f"{name}.safetensors"
