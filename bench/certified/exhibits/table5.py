"""Table 5: difference gain by initialisation.

Appendix A, by formula and measured, layer by layer. The gain of a layer is the mean width of its output bounds over that of
the layer before: (n/2) E|W| with fan-in n. For layers 2 to 6 of CNN-7 without BatchNorm, on one batch, five seeds. Below,
with BatchNorm in training mode, which scales bounds by the spread of the clean batch: there no initialisation has a gain
of 1, the IBP initialisation included, so it can act through the course of training alone.

Expected: PyTorch's default 45.25 at n = 32,768 (printed), that is sqrt(n) / 4; IBP initialisation 1 at any n.
Cost: seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.certified.design import IBP_INIT, INITS, TORCH_DEFAULT, UntrainedSettings, untrained
from bench.certified.exhibits._rows import layer_values
from bench.certified.exhibits._tables import grid, values_of
from bench.certified.spec import Network
from bench.exhibit import Arm, ArmRun, Row, claim, row
from bench.record import Record
from bench.stats import Finding, equivalent_to

if TYPE_CHECKING:
    import pandas as pd

CAPTION = (
    "Difference gain of layers 2 to 6 of CNN-7: measured, mean and standard deviation over seeds, with the formula's "
    "value in parentheses. The last columns have BatchNorm with batch statistics, where the formulas do not hold and "
    "the IBP initialisation does not give a gain of 1."
)

PLAIN, NORMED = "no BN", "BN in training mode"
"""Panels."""
FIRST = 2
"""The first layer that has a gain: layer 1 reads the input box."""

Settings = UntrainedSettings


def arms(settings: Settings) -> Iterator[Arm]:
    yield from untrained(settings, INITS)
    for init in (TORCH_DEFAULT, IBP_INIT):
        labels = {"dataset": "cifar10", "model": "cnn7", "method": init, "panel": NORMED}
        yield Arm(labels, partial(settings.untrained, init, network=Network(name="cnn7"), mode="train"))


def rows(run: ArmRun, record: Record) -> Iterable[Row]:
    layers = record.series["layers"]
    for layer, kind, fan_in, gain, formula in zip(
        layers["layer"], layers["kind"], layers["fan_in"], layers["gain"], layers["formula"], strict=True
    ):
        if layer < FIRST:
            continue
        at = {"x_name": "layer", "x": layer}
        yield row(run, "gain", gain, **at)
        yield row(run, "fan_in", fan_in, **at)
        yield row(run, "dense", float(kind == "linear"), **at)
        if run.labels["panel"] == PLAIN:
            yield row(run, "gain_formula", formula, **at)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    from bench.report.table import number

    lines: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    plain = frame[frame["panel"] == PLAIN]
    for layer in sorted(frame["x"].dropna().unique()):
        dense, fan_in = (max(values_of(plain, name, x=layer).values(), default=0) for name in ("dense", "fan_in"))
        columns = lines[f"{layer:.0f} ({'dense' if dense else 'conv'})", f"{fan_in:,.0f}"] = {}
        for init, name in INITS.items():
            expected = values_of(plain, "gain_formula", method=init, x=layer)
            text = number(values_of(plain, "gain", method=init, x=layer), 2)
            columns[PLAIN, name] = f"{text} ({next(iter(expected.values())):.2f})" if expected else text
        for init in (TORCH_DEFAULT, IBP_INIT):
            columns[NORMED, INITS[init]] = number(values_of(frame, "gain", method=init, panel=NORMED, x=layer), 1)
    return grid(["layer", "fan-in n"], lines)


@claim("T5a", "The difference gain of each initialisation is that of its formula.", "Appendix A")
def gains_equal_formulas(frame: Any) -> Iterator[Finding]:
    """Within 10 % in convolutions, whose zero padding lowers the gain by about 5 %, and 3 % in the dense layer."""
    for init in INITS:
        measured, expected, dense = (
            layer_values(frame, metric, init, panel=PLAIN) for metric in ("gain", "gain_formula", "dense")
        )
        for layer, gain in measured.items():
            margin = 0.03 if any(dense[layer].values()) else 0.1
            yield equivalent_to(gain / expected[layer], 1.0, margin=margin)
