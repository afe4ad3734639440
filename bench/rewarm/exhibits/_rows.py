"""Numbers that several exhibits take from a run: its losses by tokens, levels and peaks, and how straight a trade-off is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.exhibit import ArmRun, Row, by_seed, row
from bench.record import Record
from bench.rewarm.design import CORPORA, PILE, SLIMPAJAMA
from bench.stats import Values

SERIES = {PILE: "loss_up", SLIMPAJAMA: "loss_dn"}
"""Corpus -> its column in a record's evaluations."""
TAIL = 0.01
"""Final losses are means over evaluations in this last share of the schedule (``bench/rewarm/protocol.md``, section b)."""


@dataclass(frozen=True)
class Curves:
    """The evaluations of one run, as shares of the schedule.

    Attributes:
        share: of the schedule, ascending from 0.
        tokens: seen so far.
        loss: corpus -> nats per token.
        warmup: share of the schedule at which the warm-up ends.
        schedule_tokens: of the whole schedule.
    """

    share: list[float]
    tokens: list[float]
    loss: dict[str, list[float]]
    warmup: float
    schedule_tokens: float

    def within(self, low: float, high: float, corpus: str) -> list[float]:
        """Losses at evaluations in (low, high]."""
        return [
            loss for share, loss in zip(self.share, self.loss[corpus], strict=True) if low + 1e-9 < share <= high + 1e-9
        ]

    def level(self, horizon: float, corpus: str) -> float:
        """Mean loss over the last 1 % of the schedule before `horizon`, or the last evaluation before it."""
        losses = self.within(horizon - TAIL, horizon, corpus) or self.within(-1.0, horizon, corpus)[-1:]
        return math.fsum(losses) / len(losses)

    def until(self, horizon: float) -> Curves:
        count = sum(share <= horizon + 1e-9 for share in self.share)
        loss = {corpus: values[:count] for corpus, values in self.loss.items()}
        return Curves(self.share[:count], self.tokens[:count], loss, self.warmup, self.schedule_tokens)


def curves_of(record: Record) -> Curves:
    """The evaluations that a run left."""
    series, notes = record.series["evaluations"], record.result.notes
    steps = float(notes["schedule_steps"])
    return Curves(
        share=[step / steps for step in series["step"]],
        tokens=list(series["tokens"]),
        loss={corpus: list(series[column]) for corpus, column in SERIES.items()},
        warmup=float(notes["warmup_steps"]) / steps,
        schedule_tokens=steps * float(notes["tokens_per_step"]),
    )


def curve_rows(run: ArmRun, curves: Curves, panels: Mapping[str, str], *, shift: float = 0.0) -> Iterator[Row]:
    """Losses by billions of tokens, and where the warm-up ends.

    Args:
        run: whose they are.
        curves: its evaluations.
        panels: corpus -> panel of the figure.
        shift: tokens before the run, for a sequence of runs on one axis.
    """
    for corpus, panel in panels.items():
        for tokens, loss in zip(curves.tokens, curves.loss[corpus], strict=True):
            at = {"x_name": "tokens_1e9", "x": (shift + tokens) / 1e9}
            yield row(run, "val_loss", loss, dataset=corpus, panel=panel, **at)
    yield row(run, "warmup_tokens", (shift + curves.warmup * curves.schedule_tokens) / 1e9)
    yield row(run, "schedule_tokens", curves.schedule_tokens / 1e9)


Scalar = Callable[[Curves, str], float]
"""A number of a run on one corpus."""


def start(curves: Curves, corpus: str) -> float:
    """Loss before training."""
    return curves.loss[corpus][0]


def end(curves: Curves, corpus: str) -> float:
    """Loss at the end of the run, averaged as `Curves.level` does."""
    return curves.level(curves.share[-1], corpus)


def warmup_end(curves: Curves, corpus: str) -> float:
    """Loss at the evaluation where a 1 % warm-up ends."""
    return curves.loss[corpus][min(range(len(curves.share)), key=lambda i: abs(curves.share[i] - 0.01))]


def peak(low: float, high: float) -> Scalar:
    """Highest loss at evaluations in (low, high] of the schedule; at the first after `low` if none is as early."""
    return lambda curves, corpus: max(curves.within(low, high, corpus) or curves.within(low, math.inf, corpus)[:1])


def level(horizon: float) -> Scalar:
    """Loss at a horizon, as `Curves.level` defines it."""
    return lambda curves, corpus: curves.level(horizon, corpus)


def scalar_rows(
    run: ArmRun, curves: Curves, scalars: Mapping[str, Scalar], corpora: Sequence[str] = CORPORA
) -> Iterator[Row]:
    """Each number on each corpus, under its metric's name."""
    for corpus in corpora:
        for metric, scalar in scalars.items():
            yield row(run, metric, scalar(curves, corpus), dataset=corpus)


def trade_off_rows(run: ArmRun, record: Record) -> Iterator[Row]:
    """Both losses by tokens, and R² of the line of Pile perplexity on SlimPajama perplexity (Figures 4 and 6)."""
    curves = curves_of(record)
    yield from curve_rows(run, curves, dict.fromkeys(CORPORA, ""))
    yield row(run, "r_squared", perplexity_fit(curves))


def perplexity_fit(curves: Curves) -> float:
    """R² of the least-squares line of Pile perplexity on SlimPajama perplexity, over all evaluations."""
    import numpy as np

    x, y = (np.exp(curves.loss[corpus]) for corpus in (SLIMPAJAMA, PILE))
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def difference(frame: Any, later: str, earlier: str, **labels: Any) -> Values:
    """Seed -> one number of an arm minus another of the same run, such as its peak over its start."""
    return by_seed(frame, later, **labels) - by_seed(frame, earlier, **labels)


def losses_by_seed(frame: Any, method: str, corpus: str) -> dict[int, tuple[list[float], list[float]]]:
    """Seed -> (share of the schedule, loss) of one curve, ascending.

    Raises:
        KeyError: there is no such curve.
    """
    whole = by_seed(frame, "schedule_tokens", method=method)
    rows = frame[(frame["metric"] == "val_loss") & (frame["method"] == method) & (frame["dataset"] == corpus)]
    if rows.empty:
        raise KeyError(f"val_loss {method} {corpus}")
    curves = {}
    for seed, group in rows.groupby("seed"):
        ordered = group.sort_values("x")
        curves[int(seed)] = ((ordered["x"] / whole[int(seed)]).tolist(), ordered["value"].tolist())
    return curves
