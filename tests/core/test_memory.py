"""What ended runs leave: the next one in the process has the memory that it was planned with."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from bench import config
from bench.workflow import execute, plan
from bench.workflow.keys import resident_mb


def test_what_cycles_hold_is_freed() -> None:
    tensor = torch.empty(10)
    cycle: list = [tensor]
    cycle.append(cycle)
    held = weakref.ref(tensor)
    del tensor, cycle
    execute.give_back()
    assert held() is None


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_what_the_c_library_keeps_goes_back_to_the_system() -> None:
    torch.ones(7_000_000)  # once freed, blocks below its size come from the heap
    blocks = [torch.ones(250_000) for _ in range(400)]
    last = blocks[-1]  # on top of the others: the heap cannot shrink by itself
    del blocks
    kept = resident_mb()
    execute.give_back()
    assert resident_mb() < kept - 300
    assert last.sum() == 250_000


def test_only_a_process_that_trained_and_holds_much_gives_back(invented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bool] = []
    monkeypatch.setattr(execute, "give_back", lambda: given.append(True))
    made = plan.make(config.load(str(invented)))
    first, second, third = made.to_train()[:3]
    monkeypatch.setattr(execute, "LARGE_MB", 1e9)
    execute.run_all(made, [first], tell=lambda text: None)
    assert not given
    monkeypatch.setattr(execute, "LARGE_MB", 0)
    execute.run_all(made, [first, second, third], tell=lambda text: None)  # the first is there already
    assert len(given) == 2


FAULTS = """
import resource
import torch
from bench.workflow import execute

if {keep}:
    execute.keep_freed()
torch.set_num_threads(1)
for number in range(45):
    if number == 5:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(2_500_000) for _ in range(8)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_a_step_finds_the_memory_that_the_last_one_freed() -> None:
    def faults(keep: bool) -> int:
        """Pages that the system had to clear."""
        command = [sys.executable, "-c", FAULTS.format(keep=keep)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    # By default one process in six keeps the blocks as well: it depends on where its heap happens to lie.
    assert max(faults(keep=True) for _ in range(4)) < max(faults(keep=False) for _ in range(4)) / 10
