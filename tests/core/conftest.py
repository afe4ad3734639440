"""The plans of the suite's own scales, made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from bench import config
from bench.workflow import plan as planning
from bench.workflow.plan import Plan


@pytest.fixture(scope="session")
def plan_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Plan]:
    """``plan_of("paper")``: of a scale of which nothing is trained."""

    @cache
    def make(scale: str) -> Plan:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BENCH_RESULTS", str(tmp_path_factory.mktemp(scale)))
            return planning.make(config.load(scale))

    return make
