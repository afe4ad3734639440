"""Records of an exhibit to one long table: what is drawn and judged comes from here alone."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import checkpoint, exhibit, record
from bench.errors import UserError
from bench.exhibit import LABELS
from bench.workflow.plan import OLDER, Plan

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (*LABELS, "seed", "metric", "value", "key", "older")


@dataclass(frozen=True)
class Facts:
    """What the report says about an exhibit beside its numbers.

    Attributes:
        missing: labels of runs without a record, with the reason where it is known.
        missing_seeds: their seeds.
        missing_arms: labels of arms of which no run has a record.
        older: number of records of older code.
        runs: number of runs in the exhibit.
        machines: processors or GPUs that trained them.
        seconds: training time of the exhibit's own runs, summed.
        commits: git commits of the records.
        read: digest of the names of the records that were read.
    """

    missing: list[str]
    older: int
    runs: int
    machines: list[str]
    seconds: float
    commits: list[str]
    read: str = ""
    missing_seeds: list[int] = field(default_factory=list)
    missing_arms: list[str] = field(default_factory=list)


def frame_of(plan: Plan, name: str) -> tuple[pd.DataFrame, Facts]:
    """The long frame of an exhibit and its facts; runs without a record are named in the facts.

    Raises:
        UserError: a record was edited or is of another version.
    """
    shown = exhibit.registry()[name]
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    missing_seeds: list[int] = []
    arms: dict[tuple[str, str], bool] = {}  # labels and kind of run -> whether any is there
    machines, commits, seen = set(), set(), set()
    seconds, older = 0.0, 0
    read: dict[str, record.Record] = {}
    for member in plan.exhibits[name]:
        planned = plan.runs[plan.key(member.spec)]
        path = plan.layout.record(planned.used)
        arm = ", ".join(str(label) for label in member.labels.values()), member.spec.kind
        arms.setdefault(arm, False)
        if planned.used not in read:
            if not path.exists():
                missing.append(_why_missing(plan, planned.key, member.spec.label()))
                missing_seeds.append(member.spec.seed)
                continue
            read[planned.used] = record.read(path)
        result, arms[arm] = read[planned.used], True
        try:
            new = [{**row, "key": planned.used, "older": planned.state == OLDER} for row in shown.rows(member, result)]
        except (KeyError, IndexError) as error:
            raise UserError(f"{path}: lacks {error} that {name} needs; delete it to train the run again") from error
        rows += new
        if planned.used not in seen:
            seen.add(planned.used)
            seconds += seconds_of(result)
            older += planned.state == OLDER
            machine = result.provenance.get("machine", {})
            machines.add(
                ", ".join(machine.get("gpus", []))
                if "cuda" in result.provenance.get("device", "")
                else machine.get("processor", "unknown")
            )
            commits.add(str(result.provenance.get("commit")))
    frame = long_frame(rows)
    if shown.derive is not None and rows:
        derived = [{**row, "key": "", "older": bool(older)} for row in shown.derive(frame)]
        frame = long_frame([*rows, *derived])
    facts = Facts(
        missing=missing,
        missing_seeds=sorted(set(missing_seeds)),
        missing_arms=sorted({labels for (labels, _), present in arms.items() if not present}),
        older=older,
        runs=len(plan.exhibits[name]),
        machines=sorted(machines),
        seconds=round(seconds, 1),
        commits=sorted(commits),
        read=_digest(read),
    )
    return frame, facts


def seconds_of(result: record.Record) -> float:
    """Training time of a run; in records of an earlier version, runs that were trained at once share theirs."""
    return float(result.provenance.get("seconds", 0.0)) / (1 + len(result.provenance.get("company", ())))


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]


def long_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a frame: labels are text, "" where nothing is said, and `x` is a number or NaN."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for column in LABELS:
        if column != "x":
            frame[column] = frame[column].astype(object).where(frame[column].notna(), "").astype(str)
    frame["x"] = pd.to_numeric(frame["x"], errors="coerce")
    frame["value"] = frame["value"].astype(float)
    return frame


def _why_missing(plan: Plan, key: str, label: str) -> str:
    path = plan.layout.failure(key)
    if not path.exists():
        return label
    try:
        why = json.loads(path.read_text(encoding="utf-8"))["why"]
        return f"{label} (failed: {why})"
    except (ValueError, KeyError):
        return f"{label} (failed)"


def table_path(plan: Plan, name: str) -> Path:
    return plan.layout.tables / f"{name}.parquet"


def collect(plan: Plan, name: str) -> Path:
    """Writes the long table (Parquet) and its facts (JSON beside it)."""
    frame, facts = frame_of(plan, name)
    path = table_path(plan, name)
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    checkpoint.write_text(path.with_suffix(".json"), json.dumps(vars(facts), indent=1) + "\n")
    checkpoint.write_bytes(path, buffer.getvalue())
    if facts.missing:
        for half in (path, path.with_suffix(".json")):
            # Older than any record, so that the workflow collects again what has gaps; 0 is no time for Snakemake.
            os.utime(half, (1, 1))
    return path


def read(plan: Plan, name: str) -> tuple[pd.DataFrame, Facts]:
    """Reads what `collect` wrote.

    Raises:
        UserError: it has not been collected.
    """
    import pandas as pd

    facts = read_facts(plan, name)
    return pd.read_parquet(table_path(plan, name)), facts


def read_facts(plan: Plan, name: str) -> Facts:
    """Reads the facts alone.

    Raises:
        UserError: the exhibit has not been collected.
    """
    path = table_path(plan, name)
    facts = path.with_suffix(".json")
    if not (path.exists() and facts.exists()):
        raise UserError(
            f"{path}: not collected; run `python -m bench collect --scale {plan.suite.scale} --exhibits {name}`"
        )
    return Facts(**json.loads(facts.read_text(encoding="utf-8")))


def outdated(plan: Plan) -> list[str]:
    """Exhibits whose table was made from other records than the plan finds now, as after an edit or more training."""
    names = []
    for name in plan.exhibits:
        used = {plan.runs[key].used for key in plan.keys_of(name)}
        there = (key for key in used if plan.layout.record(key).exists())
        if read_facts(plan, name).read != _digest(there):
            names.append(name)
    return names
