"""Beyond the paper: replay of the old corpus.

The run of Figure 2 at 3e-4 (1 % warm-up) with 0, 1, 5 and 25 % of its sequences from the Pile, at equal compute: each
replayed sequence displaces a new one.

Expected (Ibrahim et al. 2024, 405M, 300 B tokens): Pile loss 2.44 without, 2.26 with 1 % and 2.23 with 5 %, at SlimPajama
losses of 2.50, 2.50 and 2.51.
Cost: three more runs of 239.3 B tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim
from bench.record import Record
from bench.rewarm.design import CORPORA, LONG, MODEL, PILE, SAME, SLIMPAJAMA, RewarmSettings
from bench.rewarm.exhibits._figures import changes, loss_panels
from bench.rewarm.exhibits._rows import curve_rows, curves_of, difference, level, scalar_rows, start
from bench.rewarm.spec import PretrainSpec
from bench.stats import Finding, Values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Losses on both corpora when a share of the sequences is drawn from the Pile again, and the change of the final "
    "losses against no replay; hollow markers are the follow-up's (405M, 300 B tokens, reading notes)."
)

ENOUGH = 5.0
"""Percent of replay that suffices for a weak shift, by the follow-up."""
COST = 0.02
"""Nats on the new corpus that it may cost."""


class Settings(RewarmSettings):
    shares: tuple[float, ...] = Field((0.0, 1.0, 5.0, 25.0), description="replayed sequences, percent")


def method(share: float) -> str:
    return f"replay {share:g} %"


def replayed(settings: Settings, share: float, seed: int) -> PretrainSpec:
    return settings.downstream(seed, SAME, 0.01, LONG, replay=share / 100)


def arms(settings: Settings) -> Iterator[Arm]:
    for share in settings.shares:
        yield Arm({"model": MODEL, "method": method(share)}, partial(replayed, settings, share))


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    curves = curves_of(record)
    yield from curve_rows(run, curves, {PILE: "left", SLIMPAJAMA: "right"})
    yield from scalar_rows(run, curves, {"start": start, "final": level(LONG)})


@claim(
    "R1",
    "Replaying 5 % at least halves what is forgotten and costs less than 0.02 nats on the new corpus.",
    "follow-up (Ibrahim et al. 2024), Table 2",
    not_expected_at={"ci": "one seed has no interval"},
)
def little_replay_suffices(frame: Any) -> Iterator[Finding]:
    without, forgotten = (
        difference(frame, "final", "start", method=method(share), dataset=PILE) for share in (0.0, ENOUGH)
    )
    half = Values({seed: value / 2 for seed, value in without.items()})
    yield stats.greater(half, forgotten, name="half of what is forgotten without replay over that with 5 %")
    new, most = (by_seed(frame, "final", method=method(share), dataset=SLIMPAJAMA) for share in (ENOUGH, 0.0))
    yield stats.below(new - most, COST, name="cost on SlimPajama")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    methods = {share: method(share) for share in settings.shares}
    fig, axes = loss_panels(frame, settings, CORPORA, list(methods.values()), height=2.9, more=1)
    final = {
        share: {corpus: by_seed(frame, "final", method=name, dataset=corpus) for corpus in CORPORA}
        for share, name in methods.items()
        if not frame[frame["method"] == name].empty
    }
    changes(axes[2], final)
    return fig
