"""Shrink-perturb elsewhere: another data set, an MLP, weight decay, pre-training.

The online protocol of Figure 8 over a coarse grid of shrink-perturb (section 7.2), where the first network is shrunk and
perturbed too; for pre-training a ResNet-18 that was fitted to CIFAR-100 goes on with a part of CIFAR-10, as in Figure 9. The
paper's grids are not known; ours has four lambdas and three noise scales, without those that leave too little to learn from.
Adam, learning rate 1e-3, batch 128.

Expected: the trend of Figure 8 in each: a region of lambda below 1 and s above 0 that is more accurate than warm starting
and cheaper than random initialisation. No numbers are available.
Cost: 11 online runs a seed for each of three kinds, about 350 M samples, and 12 short ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, Chance, by_seed, claim
from bench.report import figure
from bench.warmstart.design import NAMES, ONLINE, RI, WS, Perturb, Setup, Shrink, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import Series, curves
from bench.warmstart.exhibits._rows import chance_of, combinations, distinct, total_rows, where
from bench.warmstart.runs import can_learn, online_shrink, shrink_start, transfer
from bench.warmstart.spec import Training

CAPTION = (
    "Accuracy (above) and training samples in all (below) by shrink factor and noise scale; horizontal lines are random "
    "initialisation and warm starting. Bands are 95 % intervals over seeds; the paper's numbers are not available."
)
Kind = Literal["dataset", "mlp", "weight_decay", "transfer"]
TITLES = {
    "dataset": "another data set: SVHN",
    "mlp": "MLP on CIFAR-10",
    "weight_decay": "weight decay",
    "transfer": "pre-training: CIFAR-100 to CIFAR-10",
}


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"kinds"}

    kinds: tuple[Kind, ...] = Field(
        ("dataset", "mlp", "weight_decay", "transfer"), min_length=1, description="what is swept [U]"
    )
    shrinks: tuple[Shrink, ...] = Field((0.0, 0.3, 0.6, 1.0), min_length=1, description="lambda [O]")
    perturbs: tuple[Perturb, ...] = Field((1e-4, 1e-2, 1.0), min_length=1, description="s [O]")
    increment: int = Field(1000, ge=1, description="samples added in a round [P]")
    weight_decay: float = Field(1e-3, ge=0, le=1, description="weight decay of its sweep [O]")
    fraction: float = Field(0.3, gt=0, le=1, description="part of the target's training data after pre-training [O]")
    blank_below: float = Field(
        0.1, ge=0, description="arms with lambda = 0 and a smaller s are left out: too small to learn from [O]"
    )
    first_round: bool = Field(True, description="whether the first network is shrunk and perturbed too [C]")

    def setup(self, kind: Kind) -> Setup:
        if kind == "weight_decay":
            return Setup(optimizer=self.optimizer("adam", weight_decay=self.weight_decay))
        return {"dataset": Setup("svhn", optimizer="adam"), "mlp": Setup(model="mlp", optimizer="adam")}.get(
            kind, ONLINE
        )


def grid(settings: Settings) -> Iterator[tuple[dict[str, Any], float, float]]:
    """Labels, lambda and s of each arm; (0, 1) is random initialisation and (1, 0) a warm start, so neither stands twice."""
    yield {"method": RI}, 0.0, 1.0
    yield {"method": WS}, 1.0, 0.0
    for perturb, shrink in product(settings.perturbs, settings.shrinks):
        at_end = (shrink, perturb) in ((0.0, 1.0), (1.0, 0.0))
        if not at_end and can_learn(shrink, perturb, settings.blank_below):
            yield {"method": f"s={perturb:g}", "x_name": "shrink", "x": shrink}, shrink, perturb


def pretrained(settings: Settings, setup: Setup, seed: int, *, shrink: float, perturb: float) -> Training:
    """A part of the target after CIFAR-100."""
    start = shrink_start(shrink, perturb)
    return transfer(settings, setup, seed, source="cifar100", fraction=settings.fraction, start=start)


def arms(settings: Settings) -> Iterator[Arm]:
    added = partial(online_shrink, increment=settings.increment, first_round=settings.first_round)
    for kind in settings.kinds:
        build = pretrained if kind == "transfer" else added
        for labels, shrink, perturb in grid(settings):
            labels = {"panel": kind, **labels}
            yield arm(build, settings, settings.setup(kind), labels, shrink=shrink, perturb=perturb)


rows = total_rows


def chance(settings: Settings, row: Mapping[str, Any]) -> Chance | None:
    return chance_of(settings, row, report="official_test" if row["panel"] == "transfer" else "val_third")


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    columns = len(settings.kinds)
    fig, axes = figure.panels(2, columns, height=4.2)
    for upper, lower, kind in zip(axes[:columns], axes[columns:], settings.kinds, strict=True):
        for metric, ax in (("val_acc", upper), ("samples_total", lower)):
            by_shrink(ax, where(frame, panel=kind, metric=metric), settings)
        upper.set_title(TITLES[kind])
        lower.set_xlabel("shrink λ")
    axes[0].set_ylabel("validation accuracy (%)")
    axes[columns].set_ylabel("training samples")
    figure.legend(axes[0], published=False)
    if settings.stand_in:
        fig.suptitle("generated images stand in" if "synthetic" in settings.stand_in.values() else "stand-ins")
    return fig


def by_shrink(ax: figure.Axes, frame: Any, settings: Settings) -> None:
    """One metric by lambda, a curve for each s; random initialisation and warm start as horizontal lines."""
    for method in (RI, WS):
        values = where(frame, method=method)["value"].tolist()
        if values:
            look = figure.look(ax, method)
            mean = sum(values) / len(values)
            ax.axhline(mean, color=look["color"], linestyle=look["linestyle"], label=NAMES[method])
    names = [f"s={perturb:g}" for perturb in settings.perturbs]
    curves(ax, frame, (Series(name, name, {"method": name}) for name in names))
    ax.set_xlim(-0.05, 1.05)


@claim(
    "SW1",
    "On other data, networks and after pre-training, some shrink-perturb beats a warm start; online it costs less "
    "than fresh training.",
    "Section 7.2",
)
def dominates(frame: Any) -> Iterator[stats.Finding]:
    """Of each kind some arm with lambda below 1 is more accurate than WS and, online, cheaper than RI."""
    for kind in distinct(frame, "panel"):
        numbers = where(frame, panel=kind)
        warm, fresh_cost = by_seed(numbers, "val_acc", method=WS), by_seed(numbers, "samples_total", method=RI)
        choices = []
        for method, shrink in combinations(where(numbers, x_name="shrink"), "method", "x"):
            if shrink < 1:
                accuracy, cost = (by_seed(numbers, m, method=method, x=shrink) for m in ("val_acc", "samples_total"))
                parts = [stats.above(accuracy - warm, 0.0, name=f"{method} over warm start, {kind}")]
                if kind != "transfer":  # the samples of the source are spent already
                    parts.append(stats.above(fresh_cost - cost, 0.0, name=f"samples saved, {kind}"))
                choices.append(stats.all_of(parts))
        yield stats.any_of(choices)
