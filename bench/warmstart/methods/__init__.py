"""Ways to make the weights of a round from the last round's; one file with one function each.

A file ``<name>.py`` defines ``restart(at: Point) -> None``, which changes ``at.model`` in place, and may define
``penalty(model, initial, strength) -> Tensor``, which is added to the loss. ``Restart(method="<name>")`` then uses it.
Files in the folder ``$BENCH_EXTRA/warmstart/methods`` count too.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bench.errors import UserError, closest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bench.warmstart.spec import Restart


@dataclass
class Point:
    """The beginning of a round, where a method changes the weights.

    Attributes:
        model: weights at hand, on the device.
        fresh: the same network newly drawn for this round.
        setting: the round's `Restart`.
        generator: CPU generator of this run and round.
        trained: whether a round has trained the weights at hand, of this run or of its parent.
        chunks: the round's samples by the round that added them, oldest first.
        gradient: chunk -> gradient of its mean loss in eval mode, by parameter name.
    """

    model: nn.Module
    fresh: nn.Module
    setting: Restart
    generator: torch.Generator
    trained: bool
    chunks: Sequence[range]
    gradient: Callable[[range], dict[str, Tensor]]


def known() -> list[str]:
    """Names of all methods, the user's own included."""
    folders = [Path(__file__).parent]
    if extra := os.environ.get("BENCH_EXTRA"):
        folders.append(Path(extra) / "warmstart" / "methods")
    return sorted({path.stem for folder in folders for path in folder.glob("[a-z]*.py")})


def module_of(name: str) -> str:
    """Dotted module of a method.

    Raises:
        UserError: there is no such method; names the closest.
    """
    if name not in known():
        raise UserError(f"method '{name}' does not exist{closest(name, ['fresh', 'kept', *known()])}")
    in_suite = (Path(__file__).parent / f"{name}.py").exists()
    return f"{__name__}.{name}" if in_suite else f"bench_extra.warmstart.methods.{name}"


def load(name: str) -> ModuleType:
    return importlib.import_module(module_of(name))
