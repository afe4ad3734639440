"""Certified training of a small network on generated images through all three phases, and its verification."""

from __future__ import annotations

from bench_extra.kinds.tiny import Settings, draw, rows

from bench.certified.spec import Certified, Network, Schedule, Verification
from bench.exhibit import Arm

__all__ = ["Settings", "draw", "rows"]
CAPTION = "Metrics of both runs."


def trained(seed: int) -> Certified:
    return Certified(
        seed=seed,
        dataset="synthetic_certified",
        network=Network(width=2, units=8),
        schedule=Schedule(zero=1, ramp=2, final=1, milestones=(3,)),
        regularizers=("tightness", "relu"),
        init="ibp",
        population=70,
        report_samples=20,
    )


def verified(seed: int) -> Verification:
    return Verification(seed=seed, parent=trained(seed), methods=("ibp",), pgd_steps=2, samples=10)


def arms(settings: Settings):
    yield Arm({"method": "training"}, trained)
    yield Arm({"method": "verification"}, verified)
