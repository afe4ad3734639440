"""What a run leaves: one JSON with its specification, metrics, costs and provenance, sealed by a checksum."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import checkpoint
from bench.errors import FailedRun, UserError
from bench.run import Result, RunSpec

FORMAT = 2
MAX_BYTES = 200_000


@dataclass(frozen=True)
class Record:
    """A finished run.

    Attributes:
        key: ``<identity>-<code>``: hash of the specification and fingerprint of the code that trained it.
        spec: the specification's description, parents included.
        label: the run's name for people.
        result: metrics, series, costs, notes.
        artefacts: name -> sha256 of the weights that it left.
        provenance: commit, versions, device, precision, threads, data checksums, times.
    """

    key: str
    spec: dict[str, Any]
    label: str
    result: Result
    artefacts: dict[str, str]
    provenance: dict[str, Any]

    @property
    def seed(self) -> int:
        return int(self.spec["seed"])

    @property
    def metrics(self) -> dict[str, float]:
        return self.result.metrics

    @property
    def series(self) -> dict[str, dict[str, list[Any]]]:
        return self.result.series

    @property
    def costs(self) -> dict[str, float]:
        return self.result.costs

    @property
    def alone(self) -> bool:
        """Whether the run had the machine to itself from beginning to end, so that its seconds mean something."""
        return bool(self.provenance.get("alone"))

    def results(self) -> dict[str, Any]:
        """What must be equal between two trainings of the same run: metrics and series without times."""
        series = {
            name: {column: values for column, values in columns.items() if not column.startswith("seconds")}
            for name, columns in self.series.items()
        }
        metrics = {name: value for name, value in self.metrics.items() if not name.startswith("seconds")}
        return {"metrics": metrics, "series": series}


def check_finite(result: Result, label: str) -> None:
    """Raises `FailedRun` when a metric or a series holds NaN or infinity, or a series is ragged."""
    for name, value in result.metrics.items():
        if not math.isfinite(value):
            raise FailedRun(label, None, f"{name} is {value}")
    for name, columns in result.series.items():
        if len({len(values) for values in columns.values()}) > 1:
            raise FailedRun(label, None, f"columns of {name} differ in length")
        for column, values in columns.items():
            for row, value in enumerate(values):
                if isinstance(value, float) and not math.isfinite(value):
                    raise FailedRun(label, None, f"{name}.{column} is {value} in row {row}")


def _seal(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def write(path: Path, record: Record) -> None:
    """Writes the record atomically.

    Raises:
        FailedRun: a value is not finite, or the record is larger than 200 kB.
    """
    check_finite(record.result, record.label)
    body = {"format": FORMAT, **asdict(record)}
    text = json.dumps({**body, "seal": _seal(body)}, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    if len(text) > MAX_BYTES:
        raise FailedRun(record.label, None, f"its record has {len(text)} bytes, at most {MAX_BYTES} are allowed")
    checkpoint.write_text(path, text + "\n")


def read(path: Path) -> Record:
    """Reads a record and checks its seal.

    Raises:
        UserError: the file is no record, was made by another version of the suite, or was edited.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        seal = body.pop("seal")
        found = body.pop("format")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: not a record ({error}); delete it to train the run again") from error
    if found != FORMAT:
        raise UserError(
            f"{path}: record of another version of the suite (format {found}, this one writes {FORMAT}); "
            "move the folder aside, or use the version that wrote it"
        )
    if _seal({"format": found, **body}) != seal:
        raise UserError(
            f"{path}: changed after it was written (its seal does not fit); restore it, or delete it to train again"
        )
    body["result"] = Result(**body["result"])
    return Record(**body)


def of_run(spec: RunSpec, key: str, result: Result, artefacts: dict[str, str], provenance: dict[str, Any]) -> Record:
    return Record(key, spec.description(), spec.label(), result, artefacts, provenance)


def keys_in(folder: Path) -> set[str]:
    """Keys of the records that lie in `folder`, by name alone."""
    return {path.stem for path in folder.glob("*.json")} if folder.is_dir() else set()


def is_older(path: Path) -> bool:
    """Whether a record is of an earlier version, by its first bytes alone."""
    with path.open("rb") as stream:
        version = re.match(rb'\{"format":\s*(\d+)', stream.read(40))
    return version is not None and int(version[1]) < FORMAT


def failures_in(folder: Path) -> set[str]:
    """Keys of the runs that failed."""
    return {path.stem for path in folder.glob("*.failed")} if folder.is_dir() else set()
