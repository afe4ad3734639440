"""Work is sized by free memory on a GPU, and halved when memory runs out."""

from __future__ import annotations

import pytest
import torch

from bench.training import memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_half_the_size_after_each_failure(error: Exception) -> None:
    tried: list[int] = []
    lines: list[str] = []

    def act(size: int) -> str:
        tried.append(size)
        if size > 13:
            raise error
        return "done"

    assert memory.fitting(act, 100, tell=lines.append) == ("done", 13)
    assert tried == [100, 50, 25, 13]
    assert len(lines) == 3 and "13 at once" in lines[-1]


def test_one_at_once_is_the_end() -> None:
    def act(size: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        memory.fitting(act, 5, tell=lambda line: None)


def test_other_errors_go_through_at_once() -> None:
    tried = []

    def act(size: int) -> None:
        tried.append(size)
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        memory.fitting(act, 8)
    assert tried == [8]


def test_tensors_of_a_failed_try_are_gone_before_the_next() -> None:
    """They would fill the memory that the smaller try needs."""
    import weakref

    alive: list[weakref.ref] = []

    def act(size: int) -> int:
        assert not any(reference() is not None for reference in alive)
        tensor = torch.zeros(size)
        alive.append(weakref.ref(tensor))
        if size > 2:
            raise MemoryError
        return size

    assert memory.fitting(act, 8, tell=lambda line: None)[1] == 2


def test_room_on_a_gpu_is_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    gigabyte = 10**9
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40 * gigabyte, 80 * gigabyte))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 30 * gigabyte)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 10 * gigabyte)
    assert memory.room(torch.device("cuda"), 5e9) == memory.SHARE * 60 * gigabyte
    assert memory.room(torch.device("cpu"), 5e9) == 5e9
