"""Pre-training on a generated language and two continuations on another: in company, and one that trains alone."""

from __future__ import annotations

from bench_extra.family import Settings, exhibit_of

from bench.exhibit import ArmRun
from bench.rewarm.spec import Evaluation, Generated, PretrainSpec, Schedule


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for seed in settings.seed_range():
        common = {
            "seed": seed,
            "model": "2x32x2",
            "vocabulary": 16,
            "context": 16,
            "batch": 4,
            "corpora": Generated(vocabulary=16, validation_windows=8),
            "evaluation": Evaluation(every=4, dense_every=2, dense_until=0.25),
        }
        upstream = PretrainSpec(
            **common, train_on="upstream", schedule=Schedule(max_lr=3e-3, steps=8), keep=(0.5,), keep_moments=True
        )
        rewarmed = PretrainSpec(**common, schedule=Schedule(max_lr=3e-3, steps=8, warmup=0.2), parent=upstream)
        alone = PretrainSpec(
            **common,
            schedule=Schedule(max_lr=1e-3, steps=8),
            parent=upstream,
            start="step4",
            moments="kept",
            micro_batch=2,
        )
        made += [ArmRun({}, spec) for spec in (upstream, rewarmed, alone)]
    return made


EXHIBIT = exhibit_of("rewarm", members)
