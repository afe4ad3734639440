"""Small pre-trainings on generated languages, and the surroundings that they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.config import Suite
from bench.paths import Layout
from bench.rewarm.spec import Evaluation, Generated, PretrainSpec, Schedule
from bench.training.context import Context
from bench.workflow import keys
from bench.workflow.plan import Plan, Planned


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_toy(**fields: Any) -> PretrainSpec:
    """Twenty steps of a network of 7 thousand parameters on a language of 16 tokens."""
    schedule = fields.pop("schedule", {})
    chosen: dict[str, Any] = {
        "seed": 0,
        "model": "1x16x2",
        "vocabulary": 16,
        "context": 12,
        "corpora": Generated(vocabulary=16, validation_windows=6),
        "schedule": Schedule(**{"max_lr": 3e-3, "steps": 20, "warmup": 0.1, **schedule}),
        "batch": 4,
        "evaluation": Evaluation(every=5, dense_every=2, dense_until=0.2),
    }
    return PretrainSpec(**{**chosen, **fields})


def ranked() -> list[PretrainSpec]:
    """Runs for several processes: DDP, with gradient accumulation, FSDP2, each with a child that keeps its moments."""
    runs = []
    for kind in ({}, {"micro_batch": 2}, {"sharding": "shard"}):
        parent = make_toy(train_on="upstream", keep_moments=True, **kind)
        runs.append(make_toy(parent=parent, moments="kept", **kind))
    return runs


@pytest.fixture(name="ranked")
def ranked_runs() -> list[PretrainSpec]:
    return ranked()


@pytest.fixture
def toy() -> Callable[..., PretrainSpec]:
    """``toy(seed=1, schedule={"steps": 40})``: a small run."""
    return make_toy


@pytest.fixture
def plan_of() -> Callable[[Sequence[PretrainSpec], Path], Plan]:
    """``plan_of(specs, folder)``: what `bench.workflow.execute` works from."""
    return make_plan


def make_plan(specs: Sequence[PretrainSpec], root: Path) -> Plan:
    """A plan of these runs and their parents, without exhibits."""
    whole = Plan(Suite(scale="toy", device="cpu", compile="never"), Layout("toy", root), {}, {}, {}, {})
    for spec in specs:
        for part in reversed(list(spec.chain())):
            key = keys.key_of(part)
            whole.key_by_identity[part.identity] = key
            whole.runs.setdefault(key, Planned(key, part, used=key))
    return whole


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., Context]:
    """``context(spec, deadline=...)``: the surroundings of one run below a temporary folder."""

    def make(spec: PretrainSpec, **fields: Any) -> Context:
        return Context(
            key=spec.identity,
            label=spec.label(),
            layout=Layout("toy", tmp_path),
            device=torch.device("cpu"),
            compile="never",
            data_root=tmp_path,
            parent_key=None if spec.parent is None else spec.parent.identity,
            **fields,
        )

    return make
