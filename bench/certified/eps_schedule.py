"""The schedule of a training: epochs of each phase, and eps and the regularisers' weight by batch.

Source: bench/certified/protocol.md, section a.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.run import StrictModel

PHASES = ("zero", "ramp", "final")
"""Parts of a schedule: eps = 0, eps rising, eps at its target."""


class Schedule(StrictModel):
    """Epochs of the three phases and the learning rate by epoch."""

    zero: int = Field(1, ge=0, le=10_000, description="epochs at eps = 0")
    ramp: int = Field(80, ge=1, le=10_000, description="epochs in which eps rises")
    final: int = Field(79, ge=0, le=10_000, description="epochs at the target eps")
    milestones: tuple[int, ...] = Field((120, 140), description="the learning rate falls after these epochs")
    mid: float = Field(0.25, gt=0, lt=1, description="share of the ramp before eps rises linearly")
    beta: float = Field(4.0, ge=2, le=8, description="exponent of the ramp's first part")

    @property
    def epochs(self) -> int:
        return self.zero + self.ramp + self.final

    @property
    def warmup(self) -> int:
        """Epochs in which the regularisers act: eps = 0 and ramp."""
        return self.zero + self.ramp

    def lengths(self) -> dict[str, int]:
        """Phase -> its epochs."""
        return dict(zip(PHASES, (self.zero, self.ramp, self.final), strict=True))

    def phase(self, epoch: int) -> Literal["zero", "ramp", "final"]:
        """Phase of an epoch, counted from 0."""
        return "zero" if epoch < self.zero else "ramp" if epoch < self.warmup else "final"

    def name(self) -> str:
        """As the published tables write it, e.g. ``160 (1+80+79)``."""
        return f"{self.epochs} ({self.zero}+{self.ramp}+{self.final})"


def eps_share(step: int, schedule: Schedule, steps_per_epoch: int) -> float:
    """eps at a batch as a share of its target.

    With L batches in an epoch, eps is 0 up to the step init = zero * L, rises with the power `beta` to the step
    mid = init + int(`mid` * (final - init)), then linearly with the slope reached, and is 1 from the first batch after
    the ramp on, final = (zero + ramp) * L.

    Args:
        step: batches before this one, from 0.
        schedule: epochs of the phases.
        steps_per_epoch: L.
    """
    init = schedule.zero * steps_per_epoch
    final = (schedule.zero + schedule.ramp) * steps_per_epoch
    if step <= init:
        return 0.0 if step < final else 1.0
    if step >= final:
        return 1.0
    mid, beta = init + int(schedule.mid * (final - init)), schedule.beta
    if mid == init:  # a ramp of very few batches has no first part
        return (step - init) / (final - init)
    power = float(mid - init) ** (beta - 1)
    slope = 1.0 / ((final - mid) * beta * power + (mid - init) * power)
    if step < mid:
        return slope * float(step - init) ** beta
    return slope * power * ((mid - init) + beta * (step - mid))


def regularizer_weight(share: float, lambda_0: float, epoch: int, schedule: Schedule) -> float:
    """lambda = lambda_0 (1 - eps / eps_target) in the epochs at eps = 0 and of the ramp, 0 afterwards (Equation 10).

    Args:
        share: eps at the batch over its target.
        lambda_0: weight at the start.
        epoch: from 0.
        schedule: epochs of the phases.
    """
    return lambda_0 * (1.0 - share) if epoch < schedule.warmup else 0.0
