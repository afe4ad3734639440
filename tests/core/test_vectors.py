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

LATE = """
import torch
widest = torch.backends.cpu.get_cpu_capability()
from bench.workflow import process
process.limit_vectors("AVX2")
assert torch.backends.cpu.get_cpu_capability() == widest
"""


@needs_avx2
def test_a_limit_says_nothing_of_a_torch_that_is_loaded() -> None:
    subprocess.run([sys.executable, "-c", LATE], check=True)


def test_processors_without_avx2_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"neon"})
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(process.os, "environ", {})
    process.limit_vectors("AVX2")
    assert process.os.environ == {}


@needs_avx2
def test_scale_ci_asks_for_avx2_and_records_say_that_it_was_used(bench, invented: Path, tmp_path: Path) -> None:
    assert config.load("ci").vector_units == "AVX2"
    scale = tmp_path / "toy.yaml"
    scale.write_text(invented.read_text() + "vector_units: AVX2\n")
    answer = bench("run", "--scale", str(scale), "--limit", "1")
    assert answer.returncode == 0, answer.stderr
    (path,) = planning.make(config.load(str(scale))).layout.runs.glob("*.json")
    assert record.read(path).provenance["machine"]["vector_units"] == "AVX2"
