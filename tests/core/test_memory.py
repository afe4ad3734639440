"""What ended runs leave: the next one in the process has the memory that it was planned with."""

from __future__ import annotations

import ctypes
import weakref
from pathlib import Path

import pytest
import torch

from bench import config
from bench.machine import resident_mb
from bench.workflow import execute, process
from bench.workflow import plan as planning


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process counts as one that holds much memory."""
    monkeypatch.setattr(process, "LARGE_MB", 0)


def test_what_cycles_hold_is_freed(large: None) -> None:
    tensor = torch.empty(10)
    cycle: list = [tensor]
    cycle.append(cycle)
    held = weakref.ref(tensor)
    del tensor, cycle
    process.give_back_memory()
    assert held() is None


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_what_the_c_library_keeps_goes_back_to_the_system(large: None) -> None:
    torch.ones(7_000_000)  # once freed, blocks below its size come from the heap
    blocks = [torch.ones(250_000) for _ in range(400)]
    last = blocks[-1]  # on top of the others: the heap cannot shrink by itself
    del blocks
    kept = resident_mb()
    process.give_back_memory()
    assert resident_mb() < kept - 300
    assert last.sum() == 250_000


def test_memory_is_given_back_after_each_run_that_was_trained(invented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(process, "give_back_memory", lambda: calls.append(True))
    plan = planning.make(config.load(str(invented)))
    first, second, third = plan.to_train()[:3]
    execute.run_all(plan, [first], tell=lambda text: None)
    assert len(calls) == 1
    execute.run_all(plan, [first, second, third], tell=lambda text: None)  # the first is there already
    assert len(calls) == 3
