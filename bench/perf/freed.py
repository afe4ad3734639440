"""What it gains that a trainer's process keeps the blocks which a step has freed (`bench.workflow.execute.keep_freed`).

The setting holds for a whole process: each side is one of its own, and they take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch

from bench.perf.measure import Timing, alternate
from bench.workflow.execute import keep_freed


def _serve(asked: Connection, kept: bool) -> None:
    """Says when it is ready, and sends the images per second of a turn whenever asked, until it is told to end."""
    from bench.perf import certified

    if kept:
        keep_freed()
    device = torch.device("cpu")
    ours = certified.Ours(certified.specification("cnn7", certified.BATCH), device, "never")
    turn = certified.Turns(ours, certified.BATCH, device, 1)
    asked.send(0.0)
    while asked.recv():
        asked.send(turn())


@contextmanager
def _side(kept: bool) -> Iterator[Callable[[], float]]:
    spawn = get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(there, kept), daemon=True)
    process.start()
    there.close()  # so that the end of the process is noticed
    here.recv()  # its start takes cores that the other's turn needs

    def turn() -> float:
        here.send(True)
        return here.recv()

    try:
        yield turn
    finally:
        with suppress(BrokenPipeError):  # it has failed and said why
            here.send(False)
        process.join()


def timing(turns: int) -> Timing:
    """Eager float32 steps of CNN-7 with and without the setting, images per second."""
    with _side(True) as ours, _side(False) as peer:
        return alternate(ours, peer, turns=turns)
