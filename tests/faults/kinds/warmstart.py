"""Two rounds of a small convolutional network, kept weights, and a run that goes on from them."""

from __future__ import annotations

from bench_extra.family import Settings, exhibit_of

from bench.exhibit import ArmRun
from bench.warmstart.spec import FRESH, Network, Optimizer, Restart, Round, Stop, Training


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for seed in settings.seed_range():
        common = {
            "seed": seed,
            "dataset": "synthetic",
            "generated": 96,
            "network": Network(name="thin_resnet18", width=8),
            "optimizer": Optimizer(name="adam", batch_size=24),
            "stop": Stop(epochs=2),
        }
        first = Training(
            **common,
            rounds=(
                Round(samples=32, start=FRESH),
                Round(samples=64, start=Restart(method="shrink_perturb", shrink=0.4, perturb=0.1)),
            ),
            keep_epochs=(1,),
            leaves=True,
        )
        second = Training(**common, rounds=(Round(samples=64),), parent=first)
        made += [ArmRun({}, first), ArmRun({}, second)]
    return made


EXHIBIT = exhibit_of("warmstart", members)
