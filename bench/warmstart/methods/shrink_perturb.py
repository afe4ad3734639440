"""The paper's shrink and perturb, with a fresh network or with Gaussian noise."""

from __future__ import annotations

from bench.warmstart import shrink
from bench.warmstart.methods import Point


def restart(at: Point) -> None:
    chosen = at.setting
    if chosen.noise == "fresh":
        shrink.shrink_perturb(
            at.model,
            at.fresh,
            shrink=chosen.shrink,
            perturb=chosen.perturb,
            norms=chosen.norms,
            layers=chosen.layers,
        )
    else:
        shrink.add_noise(
            at.model,
            size=chosen.perturb,
            size_is=chosen.noise_is,
            generator=at.generator,
            shrink=chosen.shrink,
            norms=chosen.norms,
            layers=chosen.layers,
        )
