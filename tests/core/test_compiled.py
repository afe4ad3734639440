"""What torch has compiled for a number of threads, or for vectors of one width, is not run with another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import cpu_flags
from bench.training.step import can_compile
from bench.workflow.process import ONLY_AVX2

COMPILE = """
import torch
from torch._dynamo.utils import counters
from bench.workflow import process
threads = {threads}
torch.set_num_threads(threads)
process.compile_for(threads)
torch.compile(lambda x: (x * x).sum(0))(torch.ones(100_000, 16))
print(counters["inductor"]["fxgraph_cache_hit"])
"""


def hits(folder: Path, threads: int, **limits: str) -> int:
    """Number of times that a new process finds in `folder` what it would compile."""
    environment = {**os.environ, **limits, "TORCHINDUCTOR_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", COMPILE.format(threads=threads)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(), reason="no C++ compiler")
def test_code_for_another_number_of_threads_is_not_hits(tmp_path: Path) -> None:
    assert [hits(tmp_path, threads) for threads in (1, 2, 1, 2)] == [0, 0, 1, 1]
    loops = [path.read_text() for path in tmp_path.rglob("*.cpp")]
    assert any("num_threads(2)" in text for text in loops)


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(), reason="no C++ compiler")
@pytest.mark.skipif("avx512vl" not in cpu_flags(), reason="no vectors of two widths")
def test_code_for_wider_vectors_is_not_hits(tmp_path: Path) -> None:
    assert [hits(tmp_path, 1), hits(tmp_path, 1, **ONLY_AVX2)] == [0, 0]
    assert [hits(tmp_path, 1), hits(tmp_path, 1, **ONLY_AVX2)] == [1, 1]
