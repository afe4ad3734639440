"""The experimental design that exhibits share: settings with the paper's values, and arms by method.

Tags of settings, such as [P] and [C], are those of bench/certified/protocol.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from pydantic import Field

from bench.certified.eps_schedule import Schedule
from bench.certified.spec import (
    DATA_SETS,
    Bound,
    Certified,
    Dataset,
    Initialisation,
    Network,
    TimingComparison,
    Verification,
)
from bench.exhibit import Arm, ExhibitSettings

PaperDataset = Literal["mnist", "cifar10", "tiny_imagenet"]
"""A data set of the paper; at a reduced scale another one may stand in for it."""

Model = Literal["cnn7", "wide_resnet", "resnext"]
SetupName = Literal["mnist_70", "cifar_70", "cifar_160", "tin_10", "tin_20"]

VANILLA: Final = "vanilla_ibp"
CROWN_IBP: Final = "crown_ibp"
OURS: Final = "ours"
NO_BN: Final = "vanilla_ibp_no_bn"

NAMES = {
    VANILLA: "vanilla IBP",
    CROWN_IBP: "CROWN-IBP",
    OURS: "ours",
    NO_BN: "vanilla IBP w/o BN",
    "r1_no_bn": "vanilla IBP w/o BN",
    "r2_bn_conv": "vanilla IBP, BN after convs",
    "r3_bn_full": "vanilla IBP",
    "r4_init": "IBP init",
    "r5_init_tightness": "IBP init + L_tightness",
    "r6_init_relu": "IBP init + L_relu",
    "r7_reg_no_init": "regularisers, no init",
    "r8_full": "ours",
}
"""The paper's names of the methods, for legends and tables."""

MODELS: dict[Model, str] = {"cnn7": "CNN-7", "wide_resnet": "Wide-ResNet", "resnext": "ResNeXt"}
PAPER_DATASETS: dict[PaperDataset, str] = {"mnist": "MNIST", "cifar10": "CIFAR-10", "tiny_imagenet": "TinyImageNet"}

_DATASETS: dict[PaperDataset, Dataset] = {"mnist": "mnist", "cifar10": "cifar10", "tiny_imagenet": "tinyimagenet"}
_NETWORKS: dict[Model, Literal["cnn7", "wide_resnet8", "resnext"]] = {
    "cnn7": "cnn7",
    "wide_resnet": "wide_resnet8",
    "resnext": "resnext",
}


def published_radius(role: PaperDataset) -> float:
    """The paper's target radius on one of its data sets, pixels from 0 to 1."""
    return DATA_SETS[_DATASETS[role]].eps


@dataclass(frozen=True)
class Setup:
    """A data set of the paper with a schedule: a block of rows in its tables.

    Attributes:
        role: the data set.
        schedule: as published (bench/certified/protocol.md, section b).
    """

    role: PaperDataset
    schedule: Schedule

    @property
    def panel(self) -> str:
        """As the published numbers name it, e.g. ``160 (1+80+79)``."""
        return self.schedule.name()

    @property
    def dataset(self) -> Dataset:
        return _DATASETS[self.role]


SETUPS: dict[SetupName, Setup] = {
    "mnist_70": Setup("mnist", Schedule(zero=0, ramp=20, final=50, milestones=(50, 60))),
    "cifar_70": Setup("cifar10", Schedule(zero=1, ramp=20, final=49, milestones=(50, 60))),
    "cifar_160": Setup("cifar10", Schedule()),
    "tin_10": Setup("tiny_imagenet", Schedule(zero=1, ramp=10, final=69, milestones=(60, 70))),
    "tin_20": Setup("tiny_imagenet", Schedule(zero=1, ramp=20, final=59, milestones=(60, 70))),
}


@dataclass(frozen=True)
class Components:
    """Components of a method: a row of the ablation (Table 4), of which Tables 1 to 3 use four."""

    norm: Literal["full", "convs", "none"] = "full"
    init: Literal["default", "ibp"] = "default"
    regularizers: tuple[Literal["tightness", "relu"], ...] = ()
    bound: Literal["ibp", "crown_ibp"] = "ibp"


BOTH: tuple[Literal["tightness", "relu"], ...] = ("tightness", "relu")
ABLATION: dict[str, Components] = {
    "r1_no_bn": Components(norm="none"),
    "r2_bn_conv": Components(norm="convs"),
    "r3_bn_full": Components(),
    "r4_init": Components(init="ibp"),
    "r5_init_tightness": Components(init="ibp", regularizers=("tightness",)),
    "r6_init_relu": Components(init="ibp", regularizers=("relu",)),
    "r7_reg_no_init": Components(regularizers=BOTH),
    "r8_full": Components(init="ibp", regularizers=BOTH),
}
COMPONENTS: dict[str, Components] = {
    VANILLA: ABLATION["r3_bn_full"],
    CROWN_IBP: Components(bound="crown_ibp"),
    OURS: ABLATION["r8_full"],
    NO_BN: ABLATION["r1_no_bn"],
    **ABLATION,
}
"""Method of the published numbers -> its components."""

METHODS = (VANILLA, CROWN_IBP, OURS)

CURVES = ("r1_no_bn", "r3_bn_full", "r4_init", "r7_reg_no_init", "r8_full")
"""Rows of Table 4 whose training Figures 2 to 4 show; two of the paper's five names are inferred."""

TORCH_DEFAULT, IBP_INIT = "torch_default", "ibp"
INITS: dict[str, str] = {
    "torch_default": "PyTorch default",
    "xavier_uniform": "Xavier uniform",
    "xavier_normal": "Xavier normal",
    "kaiming_uniform": "Kaiming uniform",
    "kaiming_normal": "Kaiming normal",
    "orthogonal": "orthogonal",
    "ibp": "IBP init",
}
"""Initialisations that have a formula, under their names for legends."""


# Settings -------------------------------------------------------------------------------------------------------------


class DataSettings(ExhibitSettings):
    """Data and radius."""

    stand_in: dict[PaperDataset, Dataset] = Field(
        default_factory=dict, description="data set of the paper -> data set that stands in for it at this scale"
    )
    eps: dict[PaperDataset, float] = Field(
        default_factory=dict, description="target radius at this scale, pixels from 0 to 1; other radii scale with it"
    )
    eps_is: Literal["exact", "code"] = Field("exact", description="8/255 and 1/255, or the code's 0.03137 and 0.00392")

    def dataset(self, role: PaperDataset) -> Dataset:
        return self.stand_in.get(role, _DATASETS[role])

    def target(self, role: PaperDataset) -> float:
        """Target radius of a data set at this scale."""
        data = DATA_SETS[self.dataset(role)]
        return self.eps.get(role, data.eps if self.eps_is == "exact" else data.eps_code)

    def radius(self, role: PaperDataset, published: float) -> float:
        """A radius of the paper, scaled as the data set's target is."""
        return published * self.target(role) / published_radius(role)


class UntrainedSettings(DataSettings):
    """Settings of exhibits about untrained networks."""

    selects = DataSettings.selects | {"images"}

    images: int = Field(128, ge=2, le=1024, description="images of the batch that is bounded")
    random_images: bool = Field(False, description="random pixels of the data set's shape instead of its images")

    def untrained(self, init: str, seed: int, **fields: Any) -> Initialisation:
        """CNN-7 of the paper's size; without BatchNorm unless `fields` override it."""
        defaults: dict[str, Any] = {
            "seed": seed,
            "dataset": self.dataset("cifar10"),
            "network": Network(name="cnn7", norm="none"),
            "init": init,
            "batch": self.images,
            "eps": self.eps.get("cifar10"),
            "generated": self.images if self.random_images else None,
        }
        return Initialisation(**{**defaults, **fields})


class CertifiedSettings(DataSettings):
    """Settings of every exhibit that trains networks."""

    selects = DataSettings.selects | {"verify_with", "pgd_steps"}

    schedules: dict[SetupName, Schedule] = Field(
        default_factory=dict, description="schedules at this scale; the paper's where none is given"
    )
    population: dict[PaperDataset, int] = Field(
        default_factory=dict, description="training samples in all; the whole set where none is given"
    )
    test_images: dict[PaperDataset, int] = Field(
        default_factory=dict, description="test images at most; the whole set where none is given"
    )
    final_images: dict[PaperDataset, int] = Field(
        default_factory=dict,
        description="test images at most of the final interval bounds and standard error; `test_images` where none is given",
    )
    classes: dict[PaperDataset, int] = Field(
        default_factory=dict, description="number of classes, the first ones; all where none is given"
    )
    batch: dict[PaperDataset, int] = Field(
        default_factory=dict, description="samples of a step; the paper's where none is given"
    )
    widths: dict[Model, int] = Field(
        default_factory=dict, description="first width of a network; the paper's where none is given"
    )
    units: int = Field(512, ge=1, le=8192, description="units of the hidden linear layer [C]")
    tin_lambda_0: float = Field(0.2, ge=0, le=100, description="weight of the regularisers on TinyImageNet [C]")
    lr: float = Field(5e-4, gt=0, le=1, description="learning rate of Adam [C]")
    halve_after_add: bool = Field(True, description="residual halving of the IBP initialisation [C, October 2021]")
    l_relu: Literal["skip", "code"] = Field(
        "skip", description="L_relu of a layer without active neurons in training: left out [P], or 2 [C]"
    )
    loss_fusion: bool = Field(
        True, description="CROWN-IBP: bound the loss itself [C]; false is each margin of a matrix"
    )
    report: Literal["last", "best_on_test", "best_on_val"] = Field(
        "last", description="epoch that is reported; the paper does not say [U]"
    )
    holdout: int = Field(0, ge=0, description="training samples held out for best_on_val")
    bn_statistics: Literal["running", "population"] = Field("running", description="BatchNorm at evaluation [C]")
    precision: Literal["float32", "bf16"] = Field("float32", description="arithmetic of training")
    pgd_steps: int = Field(40, ge=1, le=10_000, description="steps of the attack that bounds the verified error below")
    verify_with: tuple[Bound, ...] = Field(
        ("ibp", "crown_ibp"), min_length=1, description="bounds of the verification, through auto_LiRPA"
    )

    def number_of_classes(self, role: PaperDataset) -> int:
        return self.classes.get(role, DATA_SETS[self.dataset(role)].classes)

    def tested(self, role: PaperDataset, final: bool) -> int:
        """Number of test images of the final standard error and interval bounds, or of everything else that is tested."""
        data = DATA_SETS[self.dataset(role)]
        whole = data.test * self.number_of_classes(role) // data.classes
        most = self.test_images.get(role, whole)
        return min(whole, max(most, self.final_images.get(role, 0)) if final else most)

    def schedule(self, setup: SetupName) -> Schedule:
        return self.schedules.get(setup, SETUPS[setup].schedule)

    def network(self, model: Model, norm: str = "full") -> Network:
        return Network.model_validate(
            {"name": _NETWORKS[model], "norm": norm, "width": self.widths.get(model), "units": self.units}
        )

    def training(
        self, setup: SetupName, model: Model, method: str, seed: int, *, radius: float | None = None, **fields: Any
    ) -> Certified:
        """A run of a method under the paper's protocol; `fields` override it.

        Args:
            radius: a radius of the paper other than the data set's target.
        """
        role, components = SETUPS[setup].role, COMPONENTS[method]
        eps = self.target(role) if radius is None else self.radius(role, radius)
        is_default = math.isclose(eps, DATA_SETS[self.dataset(role)].eps)
        protocol: dict[str, Any] = {
            "seed": seed,
            "dataset": self.dataset(role),
            "network": self.network(model, components.norm),
            "init": components.init,
            "regularizers": components.regularizers,
            "lambda_0": self.tin_lambda_0 if role == "tiny_imagenet" and components.regularizers else None,
            "bound": components.bound,
            "loss_fusion": self.loss_fusion and components.bound == "crown_ibp",
            "eps": None if is_default else eps,
            "schedule": self.schedule(setup),
            "batch": self.batch.get(role),
            "lr": self.lr,
            "halve_after_add": self.halve_after_add,
            "l_relu": self.l_relu,
            "report": self.report,
            "holdout": self.holdout,
            "bn_statistics": self.bn_statistics,
            "precision": self.precision,
            "first_classes": self.classes.get(role),
            "population": self.population.get(role),
            "report_samples": self.test_images.get(role),
        }
        return Certified(**{**protocol, **fields})

    def verification(self, role: PaperDataset, training: Certified, **fields: Any) -> Verification:
        """The verification of a network on its scale's test images."""
        protocol = {
            "seed": training.seed,
            "parent": training,
            "methods": self.verify_with,
            "pgd_steps": self.pgd_steps,
            "ibp_samples": self.final_images.get(role),
        }
        return Verification(**{**protocol, **fields})


class CurveSettings(CertifiedSettings):
    """Settings of exhibits that follow trainings of CNN-7 on CIFAR-10 epoch by epoch."""

    selects = CertifiedSettings.selects | {"courses"}

    courses: tuple[SetupName, ...] = Field(("cifar_70", "cifar_160"), description="schedules")


# Arms -----------------------------------------------------------------------------------------------------------------


def labels_of(setup: SetupName, model: Model, method: str, *, eps: float | None = None) -> dict[str, Any]:
    """Labels that the published numbers have; `eps` is the paper's radius also where a scale reduces it."""
    return {
        "panel": SETUPS[setup].panel,
        "dataset": SETUPS[setup].role,
        "model": model,
        "method": method,
        "optimizer": "adam",
        "x_name": "eps",
        "x": round(published_radius(SETUPS[setup].role) if eps is None else eps, 9),
    }


def trained_and_verified(
    settings: CertifiedSettings,
    setup: SetupName,
    model: Model,
    method: str,
    *,
    labels: dict[str, Any] | None = None,
    seeds: int | None = None,
    **fields: Any,
) -> Iterator[Arm]:
    """The trainings of a method, for their best epoch, and their verifications, for their errors.

    Args:
        labels: of both; `labels_of` by default.
        seeds: repetitions, if not those of the settings.
        fields: of the trainings, as for `CertifiedSettings.training`.
    """

    def training(seed: int) -> Certified:
        return settings.training(setup, model, method, seed, **fields)

    def verification(seed: int) -> Verification:
        return settings.verification(SETUPS[setup].role, training(seed))

    labels = labels_of(setup, model, method) if labels is None else labels
    yield Arm(labels, training, seeds)
    yield Arm(labels, verification, seeds)


def curves(settings: CertifiedSettings, setups: Sequence[SetupName], methods: Iterable[str] = CURVES) -> Iterator[Arm]:
    """Trainings of CNN-7, the same as Table 4's."""
    for setup in setups:
        for method in methods:
            yield Arm(labels_of(setup, "cnn7", method), partial(settings.training, setup, "cnn7", method))


def timings(
    settings: CertifiedSettings,
    setup: SetupName,
    model: Model,
    labels: dict[str, Any],
    *,
    repeats: int,
    steps: int | None,
) -> Iterator[Arm]:
    """One measurement of all methods, which alternate in it, under the labels of each."""

    def comparison(seed: int) -> TimingComparison:
        trainings = tuple(settings.training(setup, model, method, seed) for method in METHODS)
        return TimingComparison(seed=seed, names=METHODS, of=trainings, repeats=repeats, steps=steps)

    for method in METHODS:
        yield Arm({**labels, "method": method}, comparison)


def untrained(settings: UntrainedSettings, inits: Iterable[str]) -> Iterator[Arm]:
    """Untrained networks without BatchNorm."""
    for init in inits:
        labels = {"dataset": "cifar10", "model": "cnn7", "method": init, "panel": "no BN"}
        yield Arm(labels, partial(settings.untrained, init))


# Text -----------------------------------------------------------------------------------------------------------------


def radius_text(radius: float) -> str:
    """``8/255`` for a multiple of 1/255 up to 32, else a decimal number."""
    steps = radius * 255
    return f"{round(steps)}/255" if steps < 32.5 and abs(steps - round(steps)) < 1e-6 else f"{radius:.4g}"


def scaled_radius_text(settings: DataSettings, role: PaperDataset, published: float) -> str:
    """A radius of the paper, and the radius of this scale's runs behind an arrow where it is another: ``8/255 → 2/255``."""
    actual = settings.radius(role, published)
    text = radius_text(published)
    return text if abs(actual - published) < 1e-6 else f"{text} → {radius_text(actual)}"


def schedule_text(settings: CertifiedSettings, setup: SetupName) -> str:
    """``160 (1+80+79)``, and the schedule at this scale behind an arrow where it is another."""
    published, actual = SETUPS[setup].panel, settings.schedule(setup).name()
    return published if actual == published else f"{published} → {actual}"


def protocol_text(
    settings: CertifiedSettings, setup: SetupName, *, parts: int = 1, radius: bool = True, schedule: bool = True
) -> str:
    """Data set, radius and schedule for titles, with what departs from the paper.

    Args:
        parts: lines that the title may take.
        radius: whether to name the setup's; an exhibit may have its own.
        schedule: whether to name it.
    """
    role = SETUPS[setup].role
    dataset = settings.dataset(role)
    texts = [PAPER_DATASETS[role] + ("" if dataset == SETUPS[setup].dataset else " (generated images)")]
    if radius:
        texts.append(f"eps {radius_text(settings.target(role))}")
    if role in settings.classes:
        texts.append(f"{settings.classes[role]} classes")
    if role in settings.population:
        texts.append(f"{min(settings.population[role], DATA_SETS[dataset].train):,} images")
    if schedule:
        texts.append(f"{settings.schedule(setup).name()} epochs")
    first = len(texts) if parts == 1 else len(texts) - 1
    return ",\n".join(", ".join(line) for line in (texts[:first], texts[first:]) if line)
