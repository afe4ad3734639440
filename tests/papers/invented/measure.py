"""A verification: reads what a walk left, trains nothing."""

from __future__ import annotations

from typing import ClassVar

from bench_extra.invented.walk import Walk

from bench.run import Cost, Result, RunSpec


class Measure(RunSpec):
    kind: ClassVar[str] = "invented/measure"
    trainer: ClassVar[str] = "bench_extra.invented.measure"

    parent: Walk

    def cost(self) -> Cost:
        return Cost(amount=0, flops=1e3)

    def label(self) -> str:
        return f"distance after {self.parent.label()}"

    def smoke(self) -> Measure:
        return self.model_copy(update={"parent": self.parent.smoke()})


def train(spec: Measure, context) -> Result:
    position = context.parent_tensors()["position"]
    return Result(metrics={"distance": float(position.norm())})
