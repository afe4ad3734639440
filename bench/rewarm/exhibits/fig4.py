"""Figure 4: Pile perplexity against SlimPajama perplexity while training on SlimPajama.

Each point is an evaluation, coloured by tokens; the start and the end of the warm-up stand out. The caption speaks of "RP
fine-tuning", a leftover of RedPajama.

Expected: away from the start at first, then back towards lower SlimPajama perplexity along a curve that never returns to
the Pile perplexity of the start; higher rates end further to the left and higher up. SlimPajama perplexities of 13 to 18.
Cost: four runs of 239.3 B tokens of Figure 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.exhibit import Arm
from bench.rewarm.design import LONG_RUNS, SCRATCH, RewarmSettings, arms_of
from bench.rewarm.exhibits._rows import trade_off_rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Each point is an evaluation of a run of Figure 2, mean over seeds, coloured by tokens. Large points are the state "
    "before training and at the end of the warm-up."
)

METHODS = {name: method for name, method in LONG_RUNS.items() if method != SCRATCH}

Settings = RewarmSettings
rows = trade_off_rows


def arms(settings: Settings) -> Iterator[Arm]:
    return arms_of(settings, METHODS)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.rewarm.exhibits import _figures

    return _figures.trade_off(frame, settings, list(METHODS.values()))
