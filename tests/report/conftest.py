"""Results of the invented paper, trained in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import config, exhibit
from bench.report import collect, draw
from bench.workflow import execute
from bench.workflow import plan as planning
from bench.workflow.plan import Plan

Made = Callable[..., Plan]


@pytest.fixture
def made(invented: Path, tmp_path: Path) -> Iterator[Made]:
    """``made(failing_drift=None, ...)``: a plan of the invented paper whose runs are trained and collected.

    `common` is what its exhibits share, as the number of seeds, and `scale` what stands at the top of the scale file.
    """

    def make(
        *,
        train: bool = True,
        common: dict[str, Any] | None = None,
        scale: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Plan:
        content = yaml.safe_load(invented.read_text()) | (scale or {})
        content["common"]["invented"].update(common or {})
        content["exhibits"] = {"invented/distance": settings}
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump(content))
        plan = planning.make(config.load(str(path)), source=str(path))
        if train:
            execute.run_all(plan, plan.to_train(), tell=lambda text: None)
        # States are those before training; what reads results plans again.
        plan = planning.make(config.load(str(path)), source=str(path))
        for name in plan.exhibits:
            collect.collect(plan, name)
        return plan

    exhibit.registry.cache_clear()
    yield make
    exhibit.registry.cache_clear()


@pytest.fixture
def drawn(made: Made) -> Made:
    """As `made`, with every exhibit drawn."""

    def make(**arguments: Any) -> Plan:
        plan = made(**arguments)
        for name in plan.exhibits:
            draw.draw(plan, name)
        return plan

    return make
