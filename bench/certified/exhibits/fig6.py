"""Figure 6 (Appendix B): inactive neurons have tighter interval bounds than unstable ones.

Mean radius of the bounds before each ReLU, by the neuron's state, for vanilla IBP and ours (rows 3 and 8 of Table 4) at the
quarters of the ramp, CNN-7 on CIFAR-10 with 160 epochs. What exactly the paper plots is not known.

Command: ``make reproduce SCALE=paper EXHIBITS=certified/fig6``
Expected: in every layer a smaller radius for inactive neurons. No number of the figure is known.
Cost: none beside Table 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.certified.course_grid import STATES, course_members
from bench.certified.design import NAMES, CertifiedSettings, cells_of, substitution
from bench.certified.spec import Certified
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SHOWN = ("r3_bn_full", "r8_full")


def members(settings: CertifiedSettings) -> list[ArmRun]:
    return course_members(settings, ("cifar_160",), SHOWN)


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    """``radius_<state>`` and ``share_<state>`` (percent) by layer, means over the quarters of the ramp that have it."""
    assert isinstance(member.spec, Certified)
    schedule, radii = member.spec.schedule, record.series["radii"]
    found: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for epoch, layer, state, share, radius in zip(
        *(radii[name] for name in ("epoch", "layer", "state", "share", "radius")), strict=True
    ):
        if schedule.zero < epoch <= schedule.warmup:
            found.setdefault((int(layer), str(state)), []).append((share, radius))
    for (layer, state), pairs in sorted(found.items()):
        at = {"x_name": "layer", "x": layer}
        yield row(member, f"share_{state}", 100 * sum(share for share, _ in pairs) / len(pairs), **at)
        yield row(member, f"radius_{state}", sum(radius for _, radius in pairs) / len(pairs), **at)


def inactive_tighter(frame: Any) -> stats.Finding:
    """F6: the ratio of the radii, inactive over unstable, lies below 1 in every layer of both methods."""
    parts = []
    for cell in cells_of(frame, "method", "x", metric="radius_inactive"):
        inactive, unstable = (by_seed(frame, f"radius_{state}", **cell) for state in ("inactive", "unstable"))
        ratios = {seed: value / unstable[seed] for seed, value in inactive.items() if seed in unstable}
        parts.append(
            stats.below(ratios, 1.0, name=f"inactive / unstable, {NAMES[cell['method']]}, layer {cell['x']:.0f}")
        )
    return stats.all_of(parts)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: CertifiedSettings) -> Figure:
    from matplotlib.ticker import MaxNLocator

    from bench.report import figure

    drawn, axes = figure.panels(1, len(SHOWN), sharey=True)
    for place, method in zip(axes, SHOWN, strict=True):
        for state in STATES:
            chosen = frame[(frame["metric"] == f"radius_{state}") & (frame["method"] == method)]
            figure.band(place, chosen, series=state, label=state)
        place.xaxis.set_major_locator(MaxNLocator(integer=True))
        place.set(xlabel="ReLU layer", title=NAMES[method], yscale="log")
    axes[0].set_ylabel("mean radius of the bounds")
    figure.legend(axes[0], published=False)
    drawn.suptitle(f"CNN-7 on the ramp, {substitution(settings, 'cifar_160')}")
    return drawn


EXHIBIT = Exhibit(
    name="certified/fig6",
    title="Figure 6: width of the bounds of active, unstable and inactive neurons",
    caption=(
        "Mean radius of the interval bounds before each ReLU of CNN-7 by the neuron's state, on the test set, mean over "
        "the ends of the four quarters of the ramp, on a logarithmic axis. Bands are 95 % intervals over seeds."
    ),
    kind="figure",
    settings=CertifiedSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "F6a",
            "Inactive neurons have tighter interval bounds than unstable ones, in every layer.",
            "Appendix B, Figure 6",
            inactive_tighter,
        ),
    ),
)
