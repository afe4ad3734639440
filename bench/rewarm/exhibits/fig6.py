"""Figure 6: Pile perplexity against SlimPajama perplexity when re-warming on the Pile itself.

Each point is an evaluation of a run of Figure 5, coloured by tokens; the end of the warm-up stands out.

Expected: up and back along an almost straight line, unlike Figure 4; SlimPajama perplexities of 15.5 to 19.5, Pile
perplexities of 9 to 11.
Cost: the four runs of 50 B tokens of Figure 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench import stats
from bench.exhibit import by_seed, claim
from bench.rewarm.design import REWARMED, SAME_DATA, RewarmSettings, arms_of
from bench.rewarm.exhibits._figures import trade_off
from bench.rewarm.exhibits._rows import trade_off_rows
from bench.stats import Finding

CAPTION = (
    "Each point is an evaluation of a run of Figure 5, mean over seeds, coloured by tokens. Large points are the state "
    "before training and at the end of the warm-up."
)

STRAIGHT = 0.95
"""R² from which a line counts as straight (our threshold)."""
UNCONVERGED = (
    "the model still learns during the run, so that its way back is not its way up; the threshold of 0.95 is ours and "
    "fits a converged model"
)

Settings = RewarmSettings
arms = arms_of(SAME_DATA)
draw = trade_off(list(SAME_DATA.values()))
rows = trade_off_rows


@claim(
    "C10",
    "On the same data the two perplexities rise and fall together, on a line (R² of at least 0.95), and more so than with "
    "a shift.",
    "Figure 6",
    also=("rewarm/fig4",),
    not_expected_at={"ci": UNCONVERGED, "small": UNCONVERGED},
)
def along_a_line(frames: dict[str, Any]) -> Iterator[Finding]:
    same, shifted = frames["rewarm/fig6"], frames["rewarm/fig4"]
    # The constant rate hardly moves, so that it says nothing about a line.
    for method, other in zip(tuple(SAME_DATA.values())[1:], REWARMED, strict=True):
        here, there = (by_seed(frame, "r_squared", method=name) for frame, name in ((same, method), (shifted, other)))
        yield stats.above(here, STRAIGHT, name=f"R² of {method} on the Pile", on=stats.R_SQUARED)
        yield stats.greater(here, there, name=f"R² without the shift over with, {method}", on=stats.R_SQUARED)
