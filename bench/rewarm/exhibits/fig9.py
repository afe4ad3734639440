"""Figure 9: pre-trained starts against random weights on both corpora.

The six runs of Figure 7 and the one from random weights of Figure 2, for the first 50 B tokens, on the Pile (left) and on
SlimPajama (right).

Expected: pre-trained starts are lower on both corpora and get there faster.
Cost: the runs of Figure 7 and one of Figure 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench import stats
from bench.exhibit import ArmRun, Row, claim
from bench.record import Record
from bench.rewarm.design import CORPORA, PILE, SHORT, SLIMPAJAMA, STARTS, RewarmSettings, arms_of
from bench.rewarm.exhibits._figures import START_LOOKS, loss_figure
from bench.rewarm.exhibits._rows import curve_rows, curves_of, losses_by_seed
from bench.stats import Finding, Values

CAPTION = (
    "Validation loss on the Pile (left) and on SlimPajama (right) while training on SlimPajama; dashed without, solid "
    "with a warm-up of 1 %, dash-dot from random weights. Bands are 95 % intervals over seeds."
)

RANDOM = "WU 0.01 Iter. 0"
METHODS = {**STARTS, "L5": RANDOM}
LOOKS = {**START_LOOKS, RANDOM: (RANDOM, "-.")}

Settings = RewarmSettings
arms = arms_of(METHODS)
draw = loss_figure(CORPORA, list(METHODS.values()), height=3.4, looks=LOOKS, free=(RANDOM,), legend={"below": 4})


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    return curve_rows(run, curves_of(record).until(SHORT), {PILE: "left", SLIMPAJAMA: "right"})


def distances(frame: Any) -> Iterator[tuple[str, Values]]:
    """What is compared, with the smallest distance over the evaluations of the run from random weights."""
    import numpy as np

    for corpus in CORPORA:
        scratch = losses_by_seed(frame, RANDOM, corpus)
        for method in STARTS.values():
            curves = losses_by_seed(frame, method, corpus)
            least = {
                seed: float(np.min(np.asarray(losses) - np.interp(shares, *curves[seed])))
                for seed, (shares, losses) in scratch.items()
                if seed in curves
            }
            yield f"{corpus}, least distance of {method}", Values(least)


@claim(
    "C7c",
    "Models that start from pre-trained weights are below one from random weights on both corpora throughout the first "
    "50 B tokens.",
    "Figure 9",
)
def pretrained_is_below(frame: Any) -> Iterator[Finding]:
    for name, least in distances(frame):
        yield stats.above(least, 0.0, name=name)


@claim(
    "C7c-mean",
    "Models that start from pre-trained weights are below one from random weights throughout the first 50 B tokens, on "
    "average over corpora and checkpoints.",
    "Figure 9 (our summary)",
)
def pretrained_is_below_on_average(frame: Any) -> Finding:
    return stats.on_average([least for _, least in distances(frame)], name="least distance")
