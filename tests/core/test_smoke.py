"""Every distinct kind of run of every scale works, so that none runs for the first time on an expensive machine."""

from __future__ import annotations

import pytest

from bench.workflow import smoke


@pytest.mark.parametrize("scale", ["ci", "small", "paper"])
def test_numbers_alone_make_no_kind_and_none_is_left_out(scale: str, plan_of) -> None:
    """Learning rates, shrink factors, radii and sizes would make thousands of them. None needs more than 16 GB."""
    plan = plan_of(scale)
    kinds = smoke.kinds(plan)
    assert len(kinds) < 300 and len(kinds) < len(plan.runs)
    assert {spec.trainer for spec in kinds} == {run.spec.trainer for run in plan.runs.values()}
    assert not smoke.left_out(kinds)


@pytest.mark.parametrize(
    "scale",
    [
        "ci",
        pytest.param("small", marks=pytest.mark.slow),
        pytest.param("paper", marks=[pytest.mark.slow, pytest.mark.timeout(7200)]),
    ],
)
def test_every_kind_of_run_works(scale: str, plan_of, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute or two for the reduced scales; for scale paper more than an hour, nearly all of it CROWN-IBP with 200
    classes, and 15 GB for its 410M network."""
    monkeypatch.setenv("BENCH_SMOKE_QUIET", "1")
    assert smoke.smoke(plan_of(scale)) == 0
