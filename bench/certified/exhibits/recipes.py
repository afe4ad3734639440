"""Newer recipes: natural against certified accuracy (beyond the paper).

The same CNN-7 under tuned IBP (CTBench: longer ramp, population statistics of BatchNorm, a clean share in the loss), MTL-IBP
(robust loss mixed with an adversarial one) and SABR (a small box around an attack), with the paper's initialisation and
regularisers, beside vanilla IBP and ours. Each recipe is a line of points through its own weight. Verified by IBP and
CROWN-IBP.

At 8/255 interval bounds certify almost all that complete verifiers do (MTL-IBP 34.64 against 35.44 %). At 2/255 they do
not: networks of SABR or MTL-IBP have next to no accuracy that IBP certifies, and published values need branch and bound.

Expected (cited, complete verifiers), CIFAR-10 8/255, natural / certified accuracy: this paper 48.94 / 34.97, tuned IBP
48.51 / 35.28, MTL-IBP 53.35 / 35.44, SABR 52.38 / 35.13 %.
Cost: 30 trainings of 240 epochs a radius, those with an attack about three times as long as without.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.certified.design import (
    OURS,
    VANILLA,
    CertifiedSettings,
    labels_of,
    protocol_text,
    radius_text,
    scaled_radius_text,
)
from bench.certified.eps_schedule import Schedule
from bench.certified.exhibits._rows import distinct
from bench.certified.spec import Recipe, Verification
from bench.exhibit import Arm, ArmRun, Chance, Row, by_seed, claim, row
from bench.record import Record
from bench.stats import Finding, any_of, greater

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAPTION = (
    "CNN-7 under newer training recipes: natural accuracy against accuracy that interval bounds and CROWN-IBP certify, "
    "on the whole test set, mean over seeds. Lines join the weights of a recipe; hollow markers are numbers of later "
    "work, most of them certified by complete verifiers, which at 2/255 interval bounds cannot match."
)

TUNED, MTL, SABR = "tuned_ibp", "mtl_ibp", "sabr"
LINES = {
    VANILLA: "vanilla IBP",
    OURS: "ours",
    TUNED: "tuned IBP, clean share",
    MTL: "MTL-IBP",
    SABR: "SABR",
}
CITED = {
    ("literature", "shi_ibp"): OURS,
    ("CTBench retuned", "shi_ibp"): TUNED,
    ("", "mtl_ibp"): MTL,
    ("", "sabr"): SABR,
}
"""Panel and method of the cited numbers -> line; MTL-IBP and SABR from every panel."""

VERIFIERS = {"ibp": "IBP", "crown_ibp": "CROWN-IBP", "crown": "CROWN"}


class Settings(CertifiedSettings):
    selects = CertifiedSettings.selects | {"radii", "robust_weights", "mtl_weights", "box_shares"}

    seeds: int = Field(3, ge=1, le=1000, description="repetitions")
    radii: tuple[float, ...] = Field((8 / 255, 2 / 255), description="radii on CIFAR-10, pixels from 0 to 1")
    tuned: Schedule = Field(
        Schedule(zero=1, ramp=120, final=119, milestones=(200, 220)), description="schedule of the recipes [CTBench]"
    )
    robust_weights: tuple[float, ...] = Field(
        (1.0, 0.8, 0.5, 0.25), description="tuned IBP: weight of the robust loss, the rest is clean loss"
    )
    mtl_weights: tuple[float, ...] = Field((0.75, 0.5, 0.1), description="MTL-IBP: weight of the IBP loss")
    box_shares: tuple[float, ...] = Field((0.7, 0.4, 0.1), description="SABR: radius of the box as a share of eps")
    attack_steps: int = Field(8, ge=1, le=200, description="PGD steps in the training of MTL-IBP and SABR")
    l1: float = Field(0.0, ge=0, description="weight of the L1 penalty; CTBench: 0 at 8/255, 1e-6 at 2/255")

    def recipes(self) -> Iterator[tuple[str, float, Recipe]]:
        """Line, weight along it, and the recipe."""
        attack = {"attack_steps": self.attack_steps, "l1": self.l1}
        for weight in self.robust_weights:
            yield TUNED, weight, Recipe(robust_weight=weight, l1=self.l1)
        for weight in self.mtl_weights:
            yield MTL, weight, Recipe(objective="mtl_ibp", robust_weight=weight, **attack)
        for weight in self.box_shares:
            yield SABR, weight, Recipe(objective="sabr", box_share=weight, **attack)


def _panel(radius: float) -> str:
    """The paper's radius, also where a scale reduces it."""
    return f"eps {radius_text(radius)}"


def arms(settings: Settings) -> Iterator[Arm]:
    for radius in settings.radii:
        for method in (VANILLA, OURS):
            yield _arm(settings, radius, method, 1.0, method)
        for line, weight, recipe in settings.recipes():
            fields = {"recipe": recipe, "schedule": settings.tuned, "bn_statistics": "population"}
            yield _arm(settings, radius, line, weight, OURS, **fields)


def _arm(settings: Settings, radius: float, line: str, weight: float, method: str, **fields: Any) -> Arm:
    labels = {**labels_of("cifar_160", "cnn7", line), "panel": _panel(radius), "x_name": "weight", "x": weight}

    def verification(seed: int) -> Verification:
        training = settings.training("cifar_160", "cnn7", method, seed, radius=radius, **fields)
        return settings.verification("cifar10", training)

    return Arm(labels, verification)


def rows(run: ArmRun, record: Record) -> Iterable[Row]:
    """Accuracies in percent: ``natural_accuracy``, ``certified_accuracy_<bound>``, ``pgd_accuracy``."""
    assert isinstance(run.spec, Verification)
    yield row(run, "natural_accuracy", 100 - record.metrics["standard_error"])
    yield row(run, "pgd_accuracy", 100 - record.metrics["pgd_error"])
    for bound in run.spec.methods:
        yield row(run, f"certified_accuracy_{bound}", 100 - record.metrics[f"verified_error_{bound}"])
    yield row(run, "test_images", record.metrics["samples"])


def chance(settings: Settings, labels: Mapping[str, Any]) -> Chance | None:
    """The accuracy of a network that answers alike to everything."""
    if not (metric := str(labels["metric"])).endswith("_accuracy") and "_accuracy_" not in metric:
        return None
    final = metric in ("natural_accuracy", "certified_accuracy_ibp")
    return Chance(100 / settings.number_of_classes("cifar10"), settings.tested("cifar10", final))


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    bounds = [bound for bound in settings.verify_with if bound in VERIFIERS]
    fig, axes = figure.panels(len(settings.radii), len(bounds), sharex="row", sharey="row")
    for series in (VANILLA, OURS):
        figure.look(axes[0], series)  # reserves their styles
    # Numbers of later work belong to the real data at their own radius.
    real = "cifar10" not in settings.stand_in
    cited = [radius for radius in settings.radii if real and math.isclose(settings.radius("cifar10", radius), radius)]
    for index, radius in enumerate(settings.radii):
        for ax, bound in zip(axes[len(bounds) * index :], bounds, strict=False):
            for line, label in LINES.items():
                values = frame[(frame["panel"] == _panel(radius)) & (frame["method"] == line)]
                _draw_line(ax, values, f"certified_accuracy_{bound}", line, label)
            if radius in cited:
                _draw_cited(ax, published, round(radius, 9))
            eps = scaled_radius_text(settings, "cifar10", radius)
            ax.set(xlabel="natural accuracy (%)", title=f"certified by {VERIFIERS[bound]}, eps {eps}")
        axes[len(bounds) * index].set_ylabel("certified accuracy (%)")
    figure.legend(axes[0], published=bool(cited))
    fig.suptitle(f"CNN-7, {protocol_text(settings, 'cifar_160', radius=False)}")
    return fig


def _draw_line(ax: Axes, frame: pd.DataFrame, metric: str, line: str, label: str) -> None:
    """Means over seeds of each weight, joined along the weights."""
    from bench.report import figure

    natural, certified = (
        frame[frame["metric"] == name].groupby("x", sort=True)["value"].mean() for name in ("natural_accuracy", metric)
    )
    if len(certified):
        style = figure.look(ax, line)
        ax.plot(natural.loc[certified.index], certified, label=label, **style)


def _draw_cited(ax: Axes, published: pd.DataFrame, radius: float) -> None:
    """Later work's numbers of the same recipes, at this radius."""
    from bench.report import figure

    cited = published[(published["dataset"] == "cifar10") & (published["x"] == radius)]
    for (panel, method), numbers in cited.groupby(["panel", "method"], sort=False):
        line = CITED.get((panel, method), CITED.get(("", method)))
        accuracy = dict(zip(numbers["metric"], numbers["value"], strict=True))
        if line is not None and len(accuracy) == 2:
            points = numbers[numbers["metric"] == "certified_accuracy"].assign(x=accuracy["natural_accuracy"])
            figure.published_points(ax, points, series=line)


@claim(
    "RC1",
    "MTL-IBP and SABR reach a higher natural accuracy than this paper's method.",
    "later work (MTL-IBP, SABR, CTBench)",
)
def adversarial_recipes_are_more_accurate(frame: Any) -> Iterator[Finding]:
    """Some point of each line, at the first radius."""
    panel = frame["panel"].iloc[0]
    ours = by_seed(frame, "natural_accuracy", method=OURS, panel=panel)
    for line in (MTL, SABR):
        tests = []
        for point in distinct(frame, "x", metric="natural_accuracy", method=line, panel=panel):
            natural = by_seed(frame, "natural_accuracy", method=line, panel=panel, x=point["x"])
            tests.append(greater(natural, ours, name=f"{LINES[line]} {point['x']:g} - ours, natural accuracy"))
        yield any_of(tests)


@claim("RC2", "A clean share in the loss trades certified for natural accuracy.", "later work (CTBench)")
def clean_share_trades(frame: Any) -> Iterator[Finding]:
    """From the largest robust weight to the smallest natural accuracy rises and certified accuracy falls."""
    labels = {"method": TUNED, "panel": frame["panel"].iloc[0]}
    weights = sorted(point["x"] for point in distinct(frame, "x", metric="natural_accuracy", **labels))
    least, most = weights[0], weights[-1]
    natural, certified = (
        [by_seed(frame, metric, **labels, x=weight) for weight in (least, most)]
        for metric in ("natural_accuracy", "certified_accuracy_ibp")
    )
    yield greater(natural[0], natural[1], name=f"weight {least:g} - {most:g}, natural accuracy")
    yield greater(certified[1], certified[0], name=f"weight {most:g} - {least:g}, certified accuracy")
