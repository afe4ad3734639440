"""Figure 6: width of the bounds of active, unstable and inactive neurons.

Appendix B: inactive neurons have tighter interval bounds than unstable ones. Shown is the mean radius of the bounds before
each ReLU, by the neuron's state, for vanilla IBP and ours (rows 3 and 8 of Table 4) at the quarters of the ramp, CNN-7 on
CIFAR-10 with 160 epochs. What exactly the paper plots is not known.

Expected: in every layer a smaller radius for inactive neurons. No number of the figure is known.
Cost: none beside Table 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from bench.certified.design import NAMES, CertifiedSettings, curves, protocol_text
from bench.certified.exhibits._rows import STATES, distinct
from bench.certified.spec import Certified
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim, row
from bench.record import Record
from bench.stats import Finding, below

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Mean radius of the interval bounds before each ReLU of CNN-7 by the neuron's state, on the test set, mean over "
    "the ends of the four quarters of the ramp, on a logarithmic axis. Bands are 95 % intervals over seeds."
)

SHOWN = ("r3_bn_full", "r8_full")

Settings = CertifiedSettings


def arms(settings: Settings) -> Iterator[Arm]:
    return curves(settings, ("cifar_160",), SHOWN)


def rows(run: ArmRun, record: Record) -> Iterable[Row]:
    """``radius_<state>`` and ``share_<state>`` (percent) by layer, means over the quarters of the ramp that have it."""
    assert isinstance(run.spec, Certified)
    schedule, radii = run.spec.schedule, record.series["radii"]
    quarters: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for epoch, layer, state, share, radius in zip(
        *(radii[name] for name in ("epoch", "layer", "state", "share", "radius")), strict=True
    ):
        if schedule.zero < epoch <= schedule.warmup:
            quarters.setdefault((int(layer), str(state)), []).append((share, radius))
    for (layer, state), pairs in sorted(quarters.items()):
        at = {"x_name": "layer", "x": layer}
        yield row(run, f"share_{state}", 100 * sum(share for share, _ in pairs) / len(pairs), **at)
        yield row(run, f"radius_{state}", sum(radius for _, radius in pairs) / len(pairs), **at)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from matplotlib.ticker import MaxNLocator

    from bench.report import figure

    fig, axes = figure.panels(1, len(SHOWN), sharey=True)
    for ax, method in zip(axes, SHOWN, strict=True):
        for state in STATES:
            radii = frame[(frame["metric"] == f"radius_{state}") & (frame["method"] == method)]
            figure.band(ax, radii, series=state, label=state)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="ReLU layer", title=NAMES[method], yscale="log")
    axes[0].set_ylabel("mean radius of the bounds")
    figure.legend(axes[0], published=False)
    fig.suptitle(f"CNN-7 on the ramp, {protocol_text(settings, 'cifar_160')}")
    return fig


@claim(
    "F6a", "Inactive neurons have tighter interval bounds than unstable ones, in every layer.", "Appendix B, Figure 6"
)
def inactive_tighter(frame: Any) -> Iterator[Finding]:
    for labels in distinct(frame, "method", "x", metric="radius_inactive"):
        inactive, unstable = (by_seed(frame, f"radius_{state}", **labels) for state in ("inactive", "unstable"))
        name = f"inactive / unstable, {NAMES[labels['method']]}, layer {labels['x']:.0f}"
        yield below(inactive / unstable, 1.0, name=name)
