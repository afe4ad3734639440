"""Table 5 (Appendix A): difference gain of each initialisation, by formula and measured, layer by layer.

The gain of a layer is the mean width of its output bounds over that of the layer before: (n/2) E|W| with fan-in n. For
layers 2 to 6 of CNN-7 without BatchNorm, on one batch, five seeds. Below, with BatchNorm in training mode, which scales
bounds by the spread of the clean batch: there no initialisation has a gain of 1, the IBP initialisation included, so it
can act through the course of training alone.

Command: ``make reproduce SCALE=paper EXHIBITS=certified/table5``
Expected: PyTorch's default 45.25 at n = 32,768 (printed), that is sqrt(n) / 4; IBP initialisation 1 at any n.
Cost: none to speak of.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench import stats
from bench.certified.gain_grid import IBP_INIT, INITS, TORCH_DEFAULT, GainSettings, gain_members, layer_values
from bench.certified.spec import Network
from bench.exhibit import ArmRun, Claim, Exhibit, Row, row
from bench.record import Record

if TYPE_CHECKING:
    import pandas as pd

FIRST = 2
"""The first layer that has a gain: layer 1 reads the input box."""


def members(settings: GainSettings) -> list[ArmRun]:
    made = gain_members(settings, INITS)
    for init in (TORCH_DEFAULT, IBP_INIT):
        labels = {"dataset": "cifar10", "model": "cnn7", "method": init, "panel": "BN in training mode"}
        for seed in settings.seed_range():
            spec = settings.untrained(init, seed, network=Network(name="cnn7"), mode="train")
            made.append(ArmRun(labels, spec))
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    layers = record.series["layers"]
    for layer, kind, fan_in, gain, formula in zip(
        layers["layer"], layers["kind"], layers["fan_in"], layers["gain"], layers["formula"], strict=True
    ):
        if layer < FIRST:
            continue
        at = {"x_name": "layer", "x": layer}
        yield row(member, "gain", gain, **at)
        yield row(member, "fan_in", fan_in, **at)
        yield row(member, "dense", float(kind == "linear"), **at)
        if member.labels["panel"] == "no BN":
            yield row(member, "gain_formula", formula, **at)


def gains_equal_formulas(frame: Any) -> stats.Finding:
    """T5a: within 10 % in convolutions, whose zero padding lowers the gain by about 5 %, and 3 % in the dense layer."""
    parts = []
    for init in INITS:
        measured, expected, dense = (
            layer_values(frame, metric, init, panel="no BN") for metric in ("gain", "gain_formula", "dense")
        )
        for layer in sorted(next(iter(measured.values()))):
            ratio = {seed: values[layer] / expected[seed][layer] for seed, values in measured.items()}
            margin = 0.03 if next(iter(dense.values()))[layer] else 0.1
            parts.append(stats.equivalent_to(ratio, 1.0, margin=margin))
    return stats.all_of(parts)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: GainSettings) -> pd.DataFrame:
    import pandas as pd

    from bench.certified.cells import values_of
    from bench.report.table import number

    rows = []
    where = frame[frame["panel"] == "no BN"]
    for layer in sorted(frame["x"].dropna().unique()):
        dense = max(values_of(where, "dense", x=layer).values(), default=0)
        fan_in = max(values_of(where, "fan_in", x=layer).values(), default=0)
        cells = {"layer": f"{layer:.0f} ({'dense' if dense else 'conv'})", "fan-in n": f"{fan_in:,.0f}"}
        for init, name in INITS.items():
            expected = values_of(where, "gain_formula", method=init, x=layer)
            text = number(values_of(where, "gain", method=init, x=layer), 2)
            cells[name] = f"{text} ({next(iter(expected.values())):.2f})" if expected else text
        for init in (TORCH_DEFAULT, IBP_INIT):
            normed = values_of(frame, "gain", method=init, panel="BN in training mode", x=layer)
            cells[f"{INITS[init]}, BN in training"] = number(normed, 1)
        rows.append(cells)
    return pd.DataFrame(rows)


EXHIBIT = Exhibit(
    name="certified/table5",
    title="Table 5: difference gain by initialisation",
    caption=(
        "Difference gain of layers 2 to 6 of CNN-7: measured, mean and standard deviation over seeds, with the formula's "
        "value in parentheses. The last columns have BatchNorm with batch statistics, where the formulas do not hold and "
        "the IBP initialisation does not give a gain of 1."
    ),
    kind="table",
    settings=GainSettings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "T5a",
            "The difference gain of each initialisation is that of its formula.",
            "Appendix A",
            gains_equal_formulas,
        ),
    ),
)
