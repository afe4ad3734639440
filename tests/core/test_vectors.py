"""Scales that limit a processor's vector units have numbers that do not depend on the width of its vectors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import config, machine, record
from bench.machine import cpu_flags
from bench.workflow import plan as planning
from bench.workflow import process

needs_avx2 = pytest.mark.skipif("avx2" not in cpu_flags(), reason="no AVX2")

CAPABILITY = """
import sys
from bench.workflow import process
if {loaded}:
    import torch
process.limit_vectors({units!r})
import torch
print(torch.backends.cpu.get_cpu_capability())
"""


def capability(units: str, *, loaded: bool = False) -> str:
    command = [sys.executable, "-c", CAPABILITY.format(units=units, loaded=loaded)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@needs_avx2
def test_a_limit_holds_from_before_torch_is_loaded() -> None:
    widest = capability("all")
    assert capability("AVX2") == "AVX2"
    assert capability("AVX2", loaded=True) == widest


def test_processors_without_avx2_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"neon"})
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(process.os, "environ", {})
    process.limit_vectors("AVX2")
    assert process.os.environ == {}


@needs_avx2
def test_scale_ci_trains_on_avx2_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path))
    chosen = ["--scale", "ci", "--exhibits", "certified/fig1"]
    done = subprocess.run([sys.executable, "-m", "bench", "run", *chosen], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plan = planning.make(config.load("ci"), ["certified/fig1"])
    machines = [record.read(plan.layout.record(key)).provenance["machine"] for key in plan.runs]
    assert machines and {machine["vector_units"] for machine in machines} == {"AVX2"}
