"""The paper's shrink and perturb, with a fresh network or with Gaussian noise."""

from __future__ import annotations

from bench.warmstart import shrink
from bench.warmstart.methods import Point


def restart(at: Point) -> None:
    setting = at.setting
    if setting.noise == "fresh":
        shrink.shrink_perturb(
            at.model,
            at.fresh,
            shrink=setting.shrink,
            perturb=setting.perturb,
            norms=setting.norms,
            layers=setting.layers,
        )
    else:
        shrink.add_noise(
            at.model,
            size=setting.perturb,
            size_is=setting.noise_is,
            generator=at.generator,
            shrink=setting.shrink,
            norms=setting.norms,
            layers=setting.layers,
        )
