"""`make regress` finds an effect that was broken on purpose, and lets another rounding pass. Trains for minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import config
from bench.paths import PROJECT
from bench.report import claims, collect, regress
from bench.workflow import execute
from bench.workflow import plan as planning

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def without_shrinking(patch: pytest.MonkeyPatch) -> None:
    """Shrink and perturb keeps its noise, and the weights stay as large as they were."""
    from bench.warmstart import shrink

    original = shrink.shrink_perturb
    patch.setattr(shrink, "shrink_perturb", lambda *models, **options: original(*models, **{**options, "shrink": 1.0}))


def without_the_initialisation(patch: pytest.MonkeyPatch) -> None:
    """Networks that should have the IBP initialisation keep their own."""
    from bench.certified import init

    patch.setitem(init.DRAW, "ibp", lambda weight: weight)


def without_warm_up(patch: pytest.MonkeyPatch) -> None:
    """Every schedule begins at its peak."""
    from bench.rewarm import spec

    original = spec.learning_rate
    patch.setattr(spec, "learning_rate", lambda step, **options: original(step, **{**options, "warmup_steps": 0.0}))


BROKEN: dict[str, tuple[str, str, Callable[[pytest.MonkeyPatch], None]]] = {
    "shrinking": ("warmstart/methods", "ME2", without_shrinking),
    "initialisation": ("certified/fig5", "F5a", without_the_initialisation),
    "warm-up": ("rewarm/fig1", "C1", without_warm_up),
}


def compared(name: str, seeds: int) -> regress.Comparison:
    """The exhibit with this number of seeds, trained where it is missing, beside the committed reference."""
    plan = planning.make(config.load("ci"), [name], source="ci")
    if plan.settings[name].seeds < seeds:
        planning.give_seeds(plan, {name: seeds})
        plan = planning.make(config.load("ci"), [name], source="ci")
    assert not execute.run_all(plan, plan.to_train(), tell=lambda line: None).failed
    collect.collect(plan, name)
    return regress.compare(plan, claims.findings(plan))


@pytest.mark.parametrize("effect", BROKEN)
def test_a_broken_effect_is_an_alarm_that_further_seeds_confirm(
    effect: str, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, claim, breaks = BROKEN[effect]
    breaks(monkeypatch)
    first = compared(name, regress.SEEDS)
    assert (name, claim) in {alarm.key for alarm in first.waiting}, first
    second = compared(name, 2 * regress.SEEDS)
    assert (name, claim) in {alarm.key for alarm in second.confirmed}, second
    assert regress.tell(second) == 1


@pytest.mark.parametrize("name", ["warmstart/methods", "certified/fig5"])
def test_another_rounding_passes(name: str, results: Path) -> None:
    """Vectors of another width sum in another order."""
    call = [sys.executable, "-m", "bench", "run", "--scale", "ci", "--exhibits", name]
    subprocess.run(call, cwd=PROJECT, env={**os.environ, "ATEN_CPU_CAPABILITY": "default"}, check=True)
    assert regress.tell(compared(name, regress.SEEDS)) == 0
