"""Figure 1: width of the interval bounds at initialisation.

Bounds of an untrained network explode with depth, and do not under the IBP initialisation. Shown is the mean width of the
bounds before each ReLU of a simple CNN with default initialisation (which the paper calls Xavier), classifier left out.
The paper does not name the network: here CNN-7 without BatchNorm, one batch of CIFAR-10 at eps 8/255, five seeds, beside
other initialisations and the paper's own. With BatchNorm by batch statistics no initialisation keeps the gain at 1
(Table 5).

Expected (derived; mean radius at the input and before each ReLU): default .152 .385 2.28 13.5 108 871 3.96e4, IBP
initialisation .152 .286 .285 .273 .258 .247 .248.
Cost: seconds, one forward pass for each seed and initialisation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from bench.certified.design import (
    IBP_INIT,
    INITS,
    PAPER_DATASETS,
    TORCH_DEFAULT,
    UntrainedSettings,
    radius_text,
    untrained,
)
from bench.certified.exhibits._rows import layer_values
from bench.exhibit import Arm, ArmRun, Row, claim, row
from bench.record import Record
from bench.stats import Finding, above, equivalent_to

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Mean width of the interval bounds before each ReLU of an untrained CNN-7 without BatchNorm, in normalised units "
    "on a logarithmic axis, for several initialisations. Bands are 95 % intervals over seeds. The paper shows the "
    'default initialisation of PyTorch, which it calls "Xavier"; the others are beyond it.'
)

SHOWN = (TORCH_DEFAULT, "xavier_uniform", "kaiming_normal", "orthogonal", IBP_INIT)

Settings = UntrainedSettings


def arms(settings: Settings) -> Iterator[Arm]:
    return untrained(settings, SHOWN)


def rows(run: ArmRun, record: Record) -> Iterable[Row]:
    layers = record.series["layers"]
    for layer, radius, gain, formula in zip(
        layers["layer"], layers["radius"], layers["gain"], layers["formula"], strict=True
    ):
        at = {"x_name": "layer", "x": layer}
        yield row(run, "width", 2 * radius, **at)
        if layer:
            yield row(run, "gain", gain, **at)
            yield row(run, "gain_formula", formula, **at)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    fig, (ax,) = figure.panels(1, 1, width="single", height=2.7)
    figure.look(ax, "ours")  # reserves its style
    for init in SHOWN:
        widths = frame[(frame["metric"] == "width") & (frame["method"] == init)]
        figure.band(ax, widths, series="ours" if init == IBP_INIT else init, label=INITS[init])
    ax.set(yscale="log", xlabel="layer (0: input)", ylabel="mean width of the bounds")
    figure.legend(ax, published=False)
    images = "random images of its shape" if settings.random_images else f"{settings.images} images"
    eps = radius_text(settings.target("cifar10"))
    fig.suptitle(f"CNN-7 without BatchNorm,\n{PAPER_DATASETS['cifar10']} ({images}), eps {eps}")
    return fig


@claim(
    "F1a",
    "With the default initialisation interval bounds grow from layer to layer, by more than 1e4 in all.",
    "Figure 1",
)
def bounds_explode(frame: Any) -> Iterator[Finding]:
    widths = list(layer_values(frame, "width", TORCH_DEFAULT).values())
    growth = [after / before for before, after in itertools.pairwise(widths)]
    least = {seed: min(step[seed] for step in growth) for seed in widths[0]}
    yield above(least, 1.0, name="least growth from layer to layer")
    yield above(widths[-1] / widths[0], 1e4, name="growth from the input to the last ReLU")


def _gains_near(frame: Any, init: str, margin: float = 0.1) -> Iterator[Finding]:
    """Whether measured over expected gain is 1 within `margin`, for every layer but the first."""
    measured, expected = (layer_values(frame, metric, init) for metric in ("gain", "gain_formula"))
    for layer in list(measured)[1:]:
        yield equivalent_to(measured[layer] / expected[layer], 1.0, margin=margin)


@claim(
    "F1b",
    "The default initialisation has a difference gain of sqrt(n) / 4, which grows with the fan-in n.",
    "Section 3.2, Table 5",
)
def default_gain_grows_with_fan_in(frame: Any) -> Iterator[Finding]:
    return _gains_near(frame, TORCH_DEFAULT)


@claim("F1c", "The IBP initialisation keeps the difference gain at 1.", "Section 3.2")
def ibp_gain_is_one(frame: Any) -> Iterator[Finding]:
    return _gains_near(frame, IBP_INIT)
