"""Certified training of a small network on generated images through all three phases, and its verification."""

from __future__ import annotations

from bench_extra.family import Settings, exhibit_of

from bench.certified.spec import Certified, Network, Schedule, Verification
from bench.exhibit import ArmRun


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for seed in settings.seed_range():
        trained = Certified(
            seed=seed,
            dataset="synthetic_certified",
            network=Network(width=2, units=8),
            schedule=Schedule(zero=1, ramp=2, final=1, milestones=(3,)),
            regularizers=("tightness", "relu"),
            init="ibp",
            population=70,
            report_samples=20,
        )
        verified = Verification(seed=seed, parent=trained, methods=("ibp",), pgd_steps=2, samples=10)
        made += [ArmRun({}, trained), ArmRun({}, verified)]
    return made


EXHIBIT = exhibit_of("certified", members)
