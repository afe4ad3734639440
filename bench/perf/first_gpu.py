"""What the first minutes on a GPU show: ``python -m bench.perf.first_gpu``, or ``make first-gpu``.

Parts run one after the other, each in a process of its own: one that crashes or hangs costs the others nothing. Each has a
slice of time, and writes its results as they come into one file of its own. With ``--rehearse`` the same is done on a CPU
with small networks, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import checkpoint, machine, paths

LIMIT = 520
"""Seconds of the whole call; a machine that is lent for ten minutes needs some to hand the results over."""
GRACE = 5
"""Seconds that a part may go on after its slice, to end by itself."""
MOST_BYTES = 15_000_000
"""Size of a file; the log's beginning is cut off."""
LOG, SUMMARY = "log.txt", "summary.json"


class Part(NamedTuple):
    """A part and the most seconds that it may take; what it does not need goes to the later ones."""

    name: str
    seconds: float


PARTS = (
    Part("doctor", 30),
    Part("tests", 60),
    Part("verification", 110),
    Part("steps", 130),
    Part("repetition", 60),
    Part("training", LIMIT),
)


def file_of(into: Path, number: int, name: str) -> Path:
    return into / f"{number}-{name}.json"


def run(
    parts: Sequence[Part],
    into: Path,
    command: Callable[[Part, float, Path], list[str]],
    *,
    limit: float = LIMIT,
    tell: Callable[[str], None] = lambda line: print(line, flush=True),
) -> bool:
    """Runs all parts and says what became of each; whether none failed.

    Args:
        parts: in order.
        into: folder of the results; those of an earlier call are replaced.
        command: (part, seconds, file of its results) -> what to start.
        limit: seconds of all parts together.
        tell: gets a line for each part.
    """
    into.mkdir(parents=True, exist_ok=True)
    for path in into.iterdir():
        path.unlink()
    began, rows = time.monotonic(), []
    for number, part in enumerate(parts, start=1):
        left = limit - (time.monotonic() - began)
        path = file_of(into, number, part.name)
        row = _run(part, min(part.seconds, left), path, command, into / LOG) if left > 1 else {"state": "no time left"}
        rows.append({"part": part.name, **row})
        seconds = f", {row['seconds']:.0f} s" if "seconds" in row else ""
        tell(f"{part.name:14} {row['state']}{seconds}")
        content = {"parts": rows, "seconds": round(time.monotonic() - began, 1), **_origin()}
        checkpoint.write_text(into / SUMMARY, json.dumps(content, indent=1) + "\n")
    _cut(into / LOG)
    return all(row["state"] in ("done", "time is over") for row in rows)


def _run(
    part: Part, seconds: float, path: Path, command: Callable[[Part, float, Path], list[str]], log: Path
) -> dict[str, Any]:
    started = time.monotonic()
    with log.open("ab") as stream:
        stream.write(f"== {part.name}\n".encode())
        stream.flush()
        process = subprocess.Popen(
            command(part, seconds, path),
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=paths.PROJECT,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(timeout=seconds + GRACE)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    state = "time is over" if code is None else "done" if code == 0 else f"failed (exit code {code}, see {LOG})"
    return {"state": state, "seconds": round(time.monotonic() - started, 1)}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a part with everything that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _origin() -> dict[str, Any]:
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **machine.commit(),
        "packages": machine.versions(),
    }


def _cut(log: Path) -> None:
    if log.stat().st_size > MOST_BYTES:
        log.write_bytes(log.read_bytes()[-MOST_BYTES:])


class Results:
    """Results of one part, written to its file as they come."""

    def __init__(self, path: Path, seconds: float):
        self.path, self.until = path, time.monotonic() + seconds
        self.content: dict[str, Any] = {}

    def note(self, name: str, value: Any) -> None:
        self.content[name] = value
        checkpoint.write_text(self.path, json.dumps(self.content, indent=1, default=str) + "\n")

    def attempt(self, name: str, act: Callable[[], Any], *, needs: float = 0.0) -> Any:
        """Notes what `act` returns, or the error that ended it; skips it where fewer than `needs` seconds are left."""
        if (left := self.left()) < needs:
            self.note(name, f"left out: {left:.0f} s are left")
            return None
        try:
            value = act()
        except Exception as error:
            import traceback

            traceback.print_exc()
            self.note(name, {"error": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"})
            return None
        self.note(name, value)
        return value

    def left(self) -> float:
        """Seconds until the part's slice ends."""
        return self.until - time.monotonic()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.perf.first_gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=paths.results_root() / "first-gpu", help="folder of the results")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU with small networks")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=float(LIMIT), help="of the whole call")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.part:
        from bench.perf import gpu_parts

        results = Results(given.file, given.seconds)
        getattr(gpu_parts, given.part)(results, gpu_parts.Sizes.of_rehearsal() if given.rehearse else gpu_parts.Sizes())
        return 0

    def command(part: Part, seconds: float, path: Path) -> list[str]:
        call = [sys.executable, "-m", "bench.perf.first_gpu", "--part", part.name]
        call += ["--seconds", f"{seconds:.0f}", "--file", str(path.absolute())]
        return [*call, *(["--rehearse"] if given.rehearse else [])]

    good = run(PARTS, given.into, command, limit=given.seconds)
    print(f"results: {given.into}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
