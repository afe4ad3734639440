"""What a trainer is given: device, resume state, artefacts, progress. It decides nothing about what is computed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench import checkpoint, words
from bench.errors import OutOfTime, UserError
from bench.paths import Layout

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm


def progress_text(said: Mapping[str, Any]) -> str:
    """``120 of 350 epochs, 3.1 epochs/s, 74 s left, train 98.2``, from what `Context.progress` leaves."""
    unit = said["unit"]
    parts = [f"{float(said['done']):,.0f} of {float(said['total']):,.0f} {unit}"]
    if "rate" in said:
        parts.append(f"{words.rate(float(said['rate']))} {unit}/s")
        parts.append(f"{words.duration(float(said['seconds_left']))} left")
    return ", ".join([*parts, *(f"{name} {value:.4g}" for name, value in said.get("values", {}).items())])


@dataclass
class Context:
    """The surroundings of one run.

    Attributes:
        key: name of the record to be.
        label: the run's name for people.
        layout: folders of the scale.
        device: where to train.
        threads: CPU threads.
        compile: "auto", "never" or "always".
        data_root: folder of the data sets.
        parent_key: record of the run that this one starts from.
        parent_sha256: artefact name -> checksum, from the parent's record.
        checkpoint_seconds: time between two saved states.
        deadline: `time.monotonic()` at which to stop after saving; ``None`` for never.
        execution: how the trainer computed on a GPU, for the record's provenance.
    """

    key: str
    label: str
    layout: Layout
    device: torch.device
    threads: int = 1
    compile: Literal["auto", "never", "always"] = "auto"
    data_root: Path = Path("data")
    parent_key: str | None = None
    parent_sha256: Mapping[str, str] = field(default_factory=dict)
    checkpoint_seconds: float = 60.0
    deadline: float | None = None
    data_checksums: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    resumed: bool = False
    execution: dict[str, str] = field(default_factory=dict)
    _saved_at: float = field(default_factory=time.monotonic)
    _told_at: float = field(default_factory=time.monotonic)
    _began: tuple[float, float] | None = None
    _bar: tqdm | None = None

    @property
    def scratch(self) -> Path:
        """Folder of this run's resume state; it outlives failed and killed jobs, and goes when the record is written."""
        return self.layout.scratch / self.key

    def resume(self) -> dict[str, Any] | None:
        """The state that an interrupted attempt left, or ``None``."""
        path = self.scratch / "state.pt"
        if not path.exists():
            return None
        self.resumed = True
        state = checkpoint.load_state(path)
        self.kept.update(state.pop("__kept__", {}))
        return state

    def checkpoint(self, make_state: Callable[[], Mapping[str, Any]], *, force: bool = False) -> None:
        """Call at every boundary; saves when a minute has passed, when forced, or when the time is over.

        Args:
            make_state: called only when something is saved; tensors and plain values that `resume` will give back.
            force: save now.

        Raises:
            OutOfTime: the time budget is over; the state has been saved.
        """
        now = time.monotonic()
        over = self.deadline is not None and now >= self.deadline
        if over or force or now - self._saved_at >= self.checkpoint_seconds:
            checkpoint.save_state(self.scratch / "state.pt", {**make_state(), "__kept__": dict(self.kept)})
            self._saved_at = now
        if over:
            raise OutOfTime(self.label)

    def parent_tensors(self, name: str = "weights") -> dict[str, torch.Tensor]:
        """An artefact of the parent run, checked against the parent's record.

        Raises:
            UserError: it is absent or not what the record says.
        """
        if self.parent_key is None:
            raise UserError(f"{self.label}: has no parent, so no artefact '{name}' to start from")
        path = self.layout.artefact(self.parent_key, name)
        return checkpoint.load_tensors(path, expected_sha256=self.parent_sha256.get(name))

    def keep(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Leaves an artefact for children or verification."""
        self.kept[name] = checkpoint.save_tensors(self.layout.artefact(self.key, name), tensors)

    def used_data(self, name: str, checksum: str) -> None:
        """Notes which data were used, for the record's provenance."""
        self.data_checksums[name] = checksum

    def progress(self, done: float, total: float, unit: str, **values: float) -> None:
        """Shows a bar to a person, a line now and then to a log, and leaves the numbers for `bench status`.

        Args:
            done: of `total`, since the run began; a resumed run goes on where it was.
            total: expected at the end; may change as a stopping rule comes nearer.
            unit: of both, such as "epochs" or "tokens".
            values: what else a person wants to see, such as a loss.
        """
        now = time.monotonic()
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=f" {unit}", desc=self.label, disable=None, leave=False, initial=done)
            self._began = (now, done)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if now - self._told_at < 15:
            return
        self._told_at = now
        rate = self._rate(now, done)
        left = {} if rate is None else {"rate": rate, "seconds_left": max(0.0, total - done) / rate}
        said = {"done": done, "total": total, "unit": unit, **left, "values": values}
        if self._bar.disable:
            print(f"{self.label}: {progress_text(said)}", file=sys.stderr, flush=True)
        content = {"label": self.label, "time": time.time(), **said}
        checkpoint.write_text(self.scratch / "progress.json", json.dumps(content))

    def _rate(self, now: float, done: float) -> float | None:
        """Units a second since this attempt began; ``None`` before anything was done."""
        if self._began is None or now <= self._began[0] or done <= self._began[1]:
            return None
        return (done - self._began[1]) / (now - self._began[0])

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
