"""Every distinct kind of run of every scale works, so that none runs for the first time on an expensive machine."""

from __future__ import annotations

import pytest

from bench import config
from bench.workflow import plan as planning
from bench.workflow import smoke

SCALES = ("ci", "small", "paper")
LEFT_OUT: dict[str, set[str]] = {scale: set() for scale in SCALES}
"""Scale -> labels of the kinds that need more than 16 GB and do not run here: none."""


@pytest.mark.parametrize("scale", SCALES)
def test_no_kind_of_run_is_left_out(scale: str) -> None:
    kinds = smoke.kinds(planning.make(config.load(scale)))
    assert {spec.label() for spec in smoke.left_out(kinds)} == LEFT_OUT[scale]


@pytest.mark.parametrize("scale", SCALES)
def test_numbers_alone_make_no_kind(scale: str) -> None:
    """Learning rates, shrink factors, radii and sizes would make thousands of them."""
    plan = planning.make(config.load(scale))
    kinds = smoke.kinds(plan)
    assert len(kinds) < 300 and len(kinds) < len(plan.runs)
    for trainer in {run.spec.trainer for run in plan.runs.values()}:
        assert any(spec.trainer == trainer for spec in kinds)


@pytest.mark.parametrize(
    "scale",
    [
        "ci",
        pytest.param("small", marks=pytest.mark.slow),
        pytest.param("paper", marks=[pytest.mark.slow, pytest.mark.timeout(7200)]),
    ],
)
def test_every_kind_of_run_works(scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute or two for the reduced scales; for scale paper more than an hour, nearly all of it CROWN-IBP with 200
    classes, and 15 GB for its 410M network."""
    monkeypatch.setenv("BENCH_SMOKE_QUIET", "1")
    assert smoke.smoke(planning.make(config.load(scale))) == 0
