"""What it gains that a trainer's process keeps the blocks which a step has freed (`bench.execute.keep_freed`).

The setting holds for a whole process: each side is one of its own, and they take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch

from bench.execute import keep_freed
from bench.perf.measure import Timing, alternate

STEPS = 4
"""Of one turn."""


def _serve(asked: Connection, kept: bool) -> None:
    """Sends the images per second of one turn for each message that asks for one, until one says that it is over."""
    from bench.perf.warmstart import Ours, Samples

    if kept:
        keep_freed()
    ours = Ours(Samples.drawn(torch.device("cpu")), "float32", "never")
    ours.some(2)
    while asked.recv():
        asked.send(ours.turn(STEPS))


@contextmanager
def _side(kept: bool) -> Iterator[Callable[[], float]]:
    spawn = get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(there, kept), daemon=True)
    process.start()
    there.close()  # so that the end of the process is noticed

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
    """Eager float32 steps of the thin ResNet-18 with and without the setting, images per second."""
    with _side(True) as ours, _side(False) as peer:
        ours(), peer()  # until both are ready
        return alternate(ours, peer, turns=turns)
