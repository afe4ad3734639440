"""Shared by all tests: the invented paper, a results folder of their own, the command line as a function."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAPERS = ROOT / "tests" / "papers"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty results folder."""
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def summing_order() -> str:
    """By which goldens are told apart: the order in which this processor and its libraries sum, as far as orders were met.

    An AMD EPYC has "avx2" with AVX2 and "avx512" with AVX-512, an Intel Xeon "avx2_intel" and "avx2".
    """
    import torch

    from bench import machine

    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    if "Intel" in machine.processor():
        return "avx2" if wide else "avx2_intel"
    return "avx512" if wide else "avx2"


@pytest.fixture
def invented(results: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The invented paper, registered in this process and in those it starts; gives the path of its scale file."""
    from bench import exhibit

    monkeypatch.setenv("BENCH_EXTRA", str(PAPERS))
    exhibit.registry.cache_clear()
    yield PAPERS / "scale.yaml"
    exhibit.registry.cache_clear()


@pytest.fixture
def bench(results: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``bench("plan", "--scale", "ci")``: the command line in a process of its own."""

    def call(*arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bench", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return call
