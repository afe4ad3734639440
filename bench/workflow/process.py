"""The process that trains: vector units, threads, arithmetic, compiled code, freed memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys

from bench import machine
from bench.config import Suite


def prepare(suite: Suite) -> None:
    """Sets up the process that trains as the scale says; call it before torch is imported."""
    machine.provide_user()
    limit_vectors(suite.vector_units)
    prepare_torch(suite.threads, deterministic=suite.deterministic)
    if suite.compile != "never":
        compile_for(suite.threads)
    keep_freed()


ONLY_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
"""Variables that torch, oneDNN and MKL read when they are loaded."""


def limit_vectors(units: str) -> None:
    """Limits this process and those that it starts to the vector units `units`: ``all`` or ``AVX2``.

    Vectors of another width sum in another order, and training makes tenths of a percent of that rounding. Nothing
    changes on a processor without AVX2, nor where torch is loaded already: a record says what was used.
    """
    if units == "AVX2" and "torch" not in sys.modules and "avx2" in machine.cpu_flags():
        for name, value in ONLY_AVX2.items():
            os.environ.setdefault(name, value)


def prepare_torch(threads: int, *, deterministic: bool = False) -> None:
    """Process-wide settings: threads, and how a GPU computes (`bench.training.policy`)."""
    from bench.training import policy

    policy.prepare(deterministic=deterministic)
    import torch

    torch.set_num_threads(threads)


VECTOR_BITS = {"AVX2": 256, "AVX512": 512}
"""SIMD width in bits by torch's CPU capability."""


def compile_for(threads: int) -> None:
    """Lets `torch.compile` make and find only code for this number of threads and for this process's vectors.

    It keeps loops without saying for how many threads (pytorch#160812, up to torch 2.12): what a job of one thread had
    compiled, one of two threads ran on one core as well, in bf16 with half as much time again for a step. Nor does it say
    how wide their vectors are: loops made for AVX-512 and built anew for AVX2 crash a process that `limit_vectors` limits.
    """
    import torch
    import torch._inductor.config as inductor

    inductor.cpp.threads = threads
    inductor.cpp.simdlen = VECTOR_BITS.get(torch.backends.cpu.get_cpu_capability())


MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Parameters of glibc's `mallopt`."""
LARGEST_KEPT, MOST_KEPT = 2**26, 2**30
"""Bytes of a block, and of all on top of the heap: peaks rise by 6 to 19 % (CNN-7, Wide-ResNet on TinyImageNet)."""


def keep_freed() -> None:
    """Lets the C library keep freed memory: the next step wants blocks of the same sizes again.

    By default it returns the largest to the system at once, which then clears each page anew: a quarter of the time of
    CNN-7's step at batch 128. `give_back_memory` returns them once a large run has ended.
    """
    _allocate(LARGEST_KEPT, MOST_KEPT)


def return_freed() -> None:
    """The C library's default again, in the state to which it adapts itself when blocks are large."""
    _allocate(2**25, 2**26)


def _allocate(largest: int, most: int) -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc alone has it
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, largest)
        library.mallopt(TRIM_THRESHOLD, most)


LARGE_MB = 2000
"""Above this resident size, freed memory is returned to the system after each run."""


def give_back_memory() -> None:
    """Returns the memory of ended runs to the system: what reference cycles hold, and what the C library keeps.

    A run is planned with the memory that it takes by itself. After CROWN-IBP training 6 GB stayed with the process.
    """
    if machine.resident_mb() <= LARGE_MB:
        return
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
