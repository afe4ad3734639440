"""Figure 4: Pile perplexity against SlimPajama perplexity while training on SlimPajama.

Each point is an evaluation, coloured by tokens; the start and the end of the warm-up stand out. The caption speaks of "RP
fine-tuning", a leftover of RedPajama.

Expected: away from the start at first, then back towards lower SlimPajama perplexity along a curve that never returns to
the Pile perplexity of the start; higher rates end further to the left and higher up. SlimPajama perplexities of 13 to 18.
Cost: four runs of 239.3 B tokens of Figure 2.
"""

from __future__ import annotations

from bench.rewarm.design import LONG_RUNS, SCRATCH, RewarmSettings, arms_of
from bench.rewarm.exhibits._figures import trade_off
from bench.rewarm.exhibits._rows import trade_off_rows

CAPTION = (
    "Each point is an evaluation of a run of Figure 2, mean over seeds, coloured by tokens. Large points are the state "
    "before training and at the end of the warm-up."
)

METHODS = {name: method for name, method in LONG_RUNS.items() if method != SCRATCH}

Settings = RewarmSettings
arms = arms_of(METHODS)
draw = trade_off(list(METHODS.values()))
rows = trade_off_rows
