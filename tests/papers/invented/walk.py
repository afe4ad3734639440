"""A trainer small enough to see through: a random walk that starts where its parent's ended."""

from __future__ import annotations

import os
import time
from typing import ClassVar

from pydantic import Field

from bench import seeds
from bench.errors import FailedRun
from bench.run import Cost, Result, RunSpec


class Walk(RunSpec):
    kind: ClassVar[str] = "invented/walk"
    trainer: ClassVar[str] = "bench_extra.invented.walk"

    steps: int = Field(20, ge=1, description="steps of the walk")
    drift: float = Field(0.1, description="mean of a step")
    fails: bool = Field(False, description="whether the walk ends in NaN")
    parent: Walk | None = None

    def cost(self) -> Cost:
        return Cost(amount=self.steps, flops=1e6 * self.steps)

    def label(self) -> str:
        return f"walk of {self.steps} drift {self.drift} seed {self.seed}"

    def smoke(self) -> Walk:
        return self.model_copy(update={"steps": 2, "parent": self.parent and self.parent.smoke()})

    def keeps(self) -> tuple[str, ...]:
        return ("weights",)


def train(spec: Walk, context) -> Result:
    import torch

    state = context.resume()
    if state is None:
        start = context.parent_tensors()["position"] if spec.parent else torch.zeros(3)
        state = {"step": 0, "position": start, "path": []}
    step, position, path = state["step"], state["position"], list(state["path"])
    while step < spec.steps:
        noise = torch.randn(3, generator=seeds.generator("walk", spec.seed, step))
        position = position + spec.drift + 0.1 * noise
        step += 1
        path.append(float(position.sum()))
        # How tests make a walk long enough to be killed.
        time.sleep(float(os.environ.get("WALK_SECONDS", "0")))
        state = {"step": step, "position": position, "path": path}
        context.checkpoint(lambda state=state: state)
        context.progress(step, spec.steps, "steps", position=path[-1])
    if spec.fails:
        raise FailedRun(spec.label(), step, "position is nan")
    context.keep("weights", {"position": position})
    return Result(
        metrics={"position": path[-1], "seconds_walked": time.process_time()},
        series={"path": {"step": list(range(1, spec.steps + 1)), "position": path}},
        costs={"steps": spec.steps},
    )
