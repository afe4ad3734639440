"""Figure 7: SlimPajama loss by tokens from earlier checkpoints.

Pythia-410M at steps 10,000, 27,000 and 143,000 of its training, re-warmed to 3e-4 over 0 and 1 % of the schedule, 50 B
tokens of SlimPajama. Step 10,000 was chosen as its Pile loss is near Figure 1's maximum of 2.5. The caption says Pile
loss, the axis shows SlimPajama.

Expected: earlier checkpoints never do better; use the last.
Cost: five runs of 50 B tokens and one of 239.3 B, which Figures 8 and 9 use too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from bench import stats
from bench.exhibit import ArmRun, Row, by_seed, claim
from bench.record import Record
from bench.rewarm.design import PILE, SHORT, SLIMPAJAMA, STARTS, RewarmSettings, arms_of
from bench.rewarm.exhibits._figures import START_LOOKS, loss_figure
from bench.rewarm.exhibits._rows import curve_rows, curves_of, level, scalar_rows
from bench.stats import Finding, Values

CAPTION = (
    "Validation loss on SlimPajama while training on it, from three checkpoints of pre-training; dashed without, solid "
    "with a warm-up of 1 %. Bands are 95 % intervals over seeds."
)

Settings = RewarmSettings
arms = arms_of(STARTS)
draw = loss_figure((SLIMPAJAMA,), list(STARTS.values()), looks=START_LOOKS, legend={"ncols": 3})


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    curves = curves_of(record).until(SHORT)
    yield from curve_rows(run, curves, {SLIMPAJAMA: ""})
    yield from scalar_rows(run, curves, {"loss_at_short": level(SHORT)})


def ends(frame: Any) -> Iterator[tuple[str, Values, Values]]:
    """What is compared, with the losses at 50 B tokens from an earlier checkpoint and from the next."""
    for warmup, corpus in itertools.product(("WU 0", "WU 0.01"), (SLIMPAJAMA, PILE)):
        for earlier, later in itertools.pairwise(("10000", "27000", "143000")):
            before, after = (
                by_seed(frame, "loss_at_short", method=f"{warmup} Iter. {step}", dataset=corpus)
                for step in (earlier, later)
            )
            yield f"{corpus}, {warmup}, {earlier} - {later}", before, after


@claim(
    "C11",
    "Earlier checkpoints end higher on both corpora, with and without warm-up: use the last.",
    "Figures 7 and 8, Takeaway 4",
)
def later_checkpoints_are_better(frame: Any) -> Iterator[Finding]:
    for name, earlier, later in ends(frame):
        yield stats.greater(earlier, later, name=name)


@claim(
    "C11-mean",
    "Earlier checkpoints end higher on average over corpora and warm-ups.",
    "Figures 7 and 8, Takeaway 4 (our summary)",
)
def later_checkpoints_are_better_on_average(frame: Any) -> Finding:
    return stats.on_average([earlier - later for _, earlier, later in ends(frame)], name="earlier - next checkpoint")
