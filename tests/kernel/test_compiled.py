"""What torch has compiled for a number of threads is not run with another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.training.step import can_compile

COMPILE = """
import torch
from torch._dynamo.utils import counters
from bench import execute
threads = {threads}
torch.set_num_threads(threads)
execute.compile_for(threads)
torch.compile(lambda x: (x * x).sum(0))(torch.ones(100_000, 16))
print(counters["inductor"]["fxgraph_cache_hit"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(), reason="no C++ compiler")
def test_code_for_another_number_of_threads_is_not_found(tmp_path: Path) -> None:
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}

    def found(threads: int) -> int:
        command = [sys.executable, "-c", COMPILE.format(threads=threads)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)

    assert [found(1), found(2), found(1), found(2)] == [0, 0, 1, 1]
    loops = [path.read_text() for path in tmp_path.rglob("*.cpp")]
    assert any("num_threads(2)" in text for text in loops)
