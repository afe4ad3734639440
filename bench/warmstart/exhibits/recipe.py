"""Beyond the paper: the gap under a modern recipe.

The two-phase protocol of Table 1 (ResNet-18, CIFAR-10, SGD) with one change at a time in both phases (augmentation,
momentum, weight decay), and with all of them and a cosine for a fixed number of epochs; last, ten times the learning rate in
the second phase alone.

Expected: not known; a replication found that augmentation removed the gap while train accuracy had not converged.
Cost: six arms of a first phase and two fits; the plain one is Table 1's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, claim
from bench.warmstart.design import RI, WS, Setup, WarmstartSettings, arm
from bench.warmstart.exhibits._rows import chance_of, distinct, gaps, untimed_rows
from bench.warmstart.exhibits._tables import compare_starts, table
from bench.warmstart.runs import both_arms, first_phase, random_init, second_phase
from bench.warmstart.spec import Optimizer, Training

if TYPE_CHECKING:
    import pandas as pd

CAPTION = (
    "Validation accuracy in percent of a ResNet-18 on CIFAR-10 with SGD, mean and standard deviation over seeds, from "
    "random weights and warm-started, when the recipe of both phases changes; the last row changes the second phase "
    "alone."
)
Recipe = Literal["plain", "augment", "momentum", "weight_decay", "modern", "larger_rate"]
TITLES = {
    "plain": "as in the paper",
    "augment": "crop and flip",
    "momentum": "momentum 0.9",
    "weight_decay": "weight decay",
    "modern": "all of these, cosine",
    "larger_rate": "larger rate in phase 2",
}


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"arms"}

    arms: tuple[Recipe, ...] = Field(
        ("plain", "augment", "momentum", "weight_decay", "modern", "larger_rate"), min_length=1, description="recipes"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(5e-4, ge=0, le=1, description="weight decay")
    modern_lr: float = Field(0.1, gt=0, le=10, description="first learning rate of the cosine")
    modern_epochs: int = Field(200, ge=1, description="epochs of each phase of the modern recipe")
    factor: float = Field(10.0, gt=0, description="on the learning rate of the second phase, last arm")

    def recipe_optimizer(self, recipe: Recipe) -> Optimizer:
        """Of both phases, but for the larger rate, which the second has alone."""
        changes: dict[Recipe, dict[str, Any]] = {
            "momentum": {"momentum": self.momentum},
            "weight_decay": {"weight_decay": self.weight_decay},
            "larger_rate": {"lr": self.factor * self.sgd_lr},
        }
        changes["modern"] = {
            "lr": self.modern_lr,
            "schedule": "cosine",
            **changes["momentum"],
            **changes["weight_decay"],
        }
        return self.optimizer("sgd", **changes.get(recipe, {}))

    def recipe_fields(self, recipe: Recipe) -> dict[str, Any]:
        """Further fields of the runs of both phases."""
        fields: dict[str, Any] = {"augment": True} if recipe in ("augment", "modern") else {}
        return fields | ({"stop": self.stop(epochs=self.modern_epochs)} if recipe == "modern" else {})


def after_plain_phase(settings: Settings, setup: Setup, seed: int) -> Training:
    return second_phase(settings, setup, seed, parent=first_phase(settings, Setup(), seed))


def arms(settings: Settings) -> Iterator[Arm]:
    for recipe in settings.arms:
        setup = Setup(optimizer=settings.recipe_optimizer(recipe))
        if recipe == "larger_rate":
            yield arm(random_init, settings, setup, {"panel": recipe, "method": RI})
            yield arm(after_plain_phase, settings, setup, {"panel": recipe, "method": WS})
        else:
            yield from both_arms(settings, setup, {"panel": recipe}, **settings.recipe_fields(recipe))


rows = untimed_rows
chance = chance_of


def draw(frame: Any, published: Any, settings: Settings) -> pd.DataFrame:
    lines = ({"recipe": TITLES[recipe]} | compare_starts(frame, panel=recipe) for recipe in settings.arms)
    return table(lines, "recipe")


@claim(
    "RE1",
    "The gap survives momentum, weight decay and a larger learning rate in the second phase.",
    "beyond the paper; section 4",
)
def survives_tuning(frame: Any) -> Iterator[stats.Finding]:
    """As far as they were run."""
    recipes = [name for name in distinct(frame, "panel") if name in ("momentum", "weight_decay", "larger_rate")]
    if not recipes:
        raise KeyError("none of the recipes")
    for name in recipes:
        yield stats.above(gaps(frame, panel=name), 0.0, name=f"gap, {TITLES[name]}")


@claim("RE2", "What is left of the gap under a modern recipe.", "beyond the paper", kind="estimate")
def survives_modern(frame: Any) -> stats.Finding:
    return stats.estimate(gaps(frame, panel="modern"), "gap in points under the modern recipe")
