"""Figure 1: interval bounds of an untrained network explode with depth, and do not under the IBP initialisation.

Mean width of the bounds before each ReLU of a simple CNN with default initialisation (which the paper calls Xavier),
classifier left out. The paper does not name the network: here CNN-7 without BatchNorm, one batch of CIFAR-10 at eps 8/255,
five seeds, beside other initialisations and the paper's own. With BatchNorm by batch statistics no initialisation keeps
the gain at 1 (Table 5).

Command: ``make reproduce SCALE=paper EXHIBITS=certified/fig1``
Expected (derived; mean radius at the input and before each ReLU): default .152 .385 2.28 13.5 108 871 3.96e4, IBP
initialisation .152 .286 .285 .273 .258 .247 .248.
Cost: none to speak of, one forward pass for each seed and initialisation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.certified.gain_grid import IBP_INIT, INITS, TORCH_DEFAULT, GainSettings, gain_members, layer_values
from bench.exhibit import ArmRun, Claim, Exhibit, Row, row
from bench.record import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SHOWN = (TORCH_DEFAULT, "xavier_uniform", "kaiming_normal", "orthogonal", IBP_INIT)


def members(settings: GainSettings) -> list[ArmRun]:
    return gain_members(settings, SHOWN)


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    layers = record.series["layers"]
    for layer, radius, gain, formula in zip(
        layers["layer"], layers["radius"], layers["gain"], layers["formula"], strict=True
    ):
        at = {"x_name": "layer", "x": layer}
        yield row(member, "width", 2 * radius, **at)
        if layer:
            yield row(member, "gain", gain, **at)
            yield row(member, "gain_formula", formula, **at)


def bounds_explode(frame: Any) -> stats.Finding:
    """F1a: the width rises from layer to layer, and from the input to the last ReLU by more than 1e4."""
    widths = layer_values(frame, "width", TORCH_DEFAULT)
    steps, whole = {}, {}
    for seed, values in widths.items():
        ordered = [values[layer] for layer in sorted(values)]
        steps[seed] = min(after / before for before, after in itertools.pairwise(ordered))
        whole[seed] = ordered[-1] / ordered[0]
    return stats.all_of(
        [
            stats.above(steps, 1.0, name="least growth from layer to layer"),
            stats.above(whole, 1e4, name="growth from the input to the last ReLU"),
        ]
    )


def default_gain_grows_with_fan_in(frame: Any) -> stats.Finding:
    """F1b: the gain of layers 2 to 6 is sqrt(n) / 4 within 10 %."""
    return gains_near(frame, TORCH_DEFAULT, margin=0.1)


def ibp_gain_is_one(frame: Any) -> stats.Finding:
    """F1c: the gain of layers 2 to 6 lies between 0.9 and 1.1."""
    return gains_near(frame, IBP_INIT, margin=0.1)


def gains_near(frame: Any, init: str, *, margin: float) -> stats.Finding:
    """Whether measured over expected gain is 1 within `margin`, for every layer but the first."""
    measured, expected = (layer_values(frame, metric, init) for metric in ("gain", "gain_formula"))
    layers = sorted(next(iter(measured.values())))[1:]
    return stats.all_of(
        [
            stats.equivalent_to(
                {seed: values[layer] / expected[seed][layer] for seed, values in measured.items()}, 1.0, margin=margin
            )
            for layer in layers
        ]
    )


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: GainSettings) -> Figure:
    from bench.report import figure

    drawn, (axes,) = figure.panels(1, 1, width="single", height=2.7)
    figure.look(axes, "ours")  # its look is not to be taken by another
    for init in SHOWN:
        chosen = frame[(frame["metric"] == "width") & (frame["method"] == init)]
        figure.band(axes, chosen, series="ours" if init == IBP_INIT else init, label=INITS[init])
    axes.set(yscale="log", xlabel="layer (0: input)", ylabel="mean width of the bounds")
    figure.legend(axes, published=False)
    drawn.suptitle(f"CNN-7 without BatchNorm,\n{settings.about()}")
    return drawn


EXHIBIT = Exhibit(
    name="certified/fig1",
    title="Figure 1: width of the interval bounds at initialisation",
    caption=(
        "Mean width of the interval bounds before each ReLU of an untrained CNN-7 without BatchNorm, in normalised units "
        "on a logarithmic axis, for several initialisations. Bands are 95 % intervals over seeds. The paper shows the "
        'default initialisation of PyTorch, which it calls "Xavier"; the others are beyond it.'
    ),
    kind="figure",
    settings=GainSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "F1a",
            "With the default initialisation interval bounds grow from layer to layer, by more than 1e4 in all.",
            "Figure 1",
            bounds_explode,
        ),
        Claim(
            "F1b",
            "The default initialisation has a difference gain of sqrt(n) / 4, which grows with the fan-in n.",
            "Section 3.2, Table 5",
            default_gain_grows_with_fan_in,
        ),
        Claim(
            "F1c",
            "The IBP initialisation keeps the difference gain at 1.",
            "Section 3.2",
            ibp_gain_is_one,
        ),
    ),
)
