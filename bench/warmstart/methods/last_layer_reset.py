"""The classifier is drawn anew, everything below it is kept."""

from __future__ import annotations

from bench.warmstart import shrink
from bench.warmstart.methods import Point


def restart(at: Point) -> None:
    shrink.shrink_perturb(at.model, at.fresh, shrink=0.0, perturb=1.0, layers="last")
