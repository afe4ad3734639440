"""The first minutes on a GPU: slices of time, parts that crash or hang, and a rehearsal on the CPU."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from bench.perf import first_gpu
from bench.perf.first_gpu import Part, Results


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_part_that_crashes_or_hangs_costs_the_others_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(first_gpu, "GRACE", 0.5)
    codes = {
        "good": "open(FILE, 'w').write('{\"a\": 1}')",
        "crashes": "import os, signal; print('about to'); os.kill(os.getpid(), signal.SIGSEGV)",
        "hangs": "import time; open(FILE, 'w').write('{\"half\": 1}'); time.sleep(60)",
        "last": "open(FILE, 'w').write('{\"b\": 2}')",
    }
    lines: list[str] = []
    parts = [Part(name, 5) if name != "hangs" else Part(name, 0.5) for name in codes]

    def command(part: Part, seconds: float, path: Path) -> list[str]:
        return python(codes[part.name].replace("FILE", repr(str(path))))

    (tmp_path / "of an earlier call").touch()
    started = time.monotonic()
    assert not first_gpu.run(parts, tmp_path, command, tell=lines.append)
    assert time.monotonic() - started < 20
    states = {row["part"]: row["state"] for row in json.loads((tmp_path / "summary.json").read_text())["parts"]}
    assert states["good"] == states["last"] == "done" and states["hangs"] == "time is over"
    assert "exit code -11" in states["crashes"]
    assert json.loads((tmp_path / "3-hangs.json").read_text()) == {"half": 1}
    assert json.loads((tmp_path / "4-last.json").read_text()) == {"b": 2}
    assert "about to" in (tmp_path / "log.txt").read_text()
    assert len(lines) == 4 and not (tmp_path / "of an earlier call").exists()


def test_what_is_left_of_the_time_goes_to_later_parts(tmp_path: Path) -> None:
    slices: list[float] = []

    def command(part: Part, seconds: float, path: Path) -> list[str]:
        slices.append(seconds)
        return python("")

    assert first_gpu.run([Part("a", 3), Part("b", 100)], tmp_path, command, limit=10, tell=lambda line: None)
    assert slices[0] == 3 and 5 < slices[1] < 10


def test_results_are_there_as_soon_as_they_are_known(tmp_path: Path) -> None:
    results = Results(tmp_path / "part.json", 100)
    results.note("first", 1)
    assert json.loads(results.path.read_text()) == {"first": 1}
    assert results.attempt("broken", lambda: 1 / 0) is None
    assert results.attempt("later", lambda: 3, needs=1000) is None
    assert results.attempt("second", lambda: 2) == 2
    content = json.loads(results.path.read_text())
    assert content["broken"] == {"error": "ZeroDivisionError: division by zero"}
    assert content["later"].startswith("left out") and content["second"] == 2
