"""What exhibits of this paper share: settings with the paper's values, runs by row name, numbers of a record, cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from pydantic import Field

from bench import stats
from bench.certified.spec import (
    CIFAR_70,
    CIFAR_160,
    EPS,
    MNIST_70,
    PHASES,
    SHAPES,
    TIN_10,
    TIN_20,
    Certified,
    Dataset,
    Method,
    Network,
    Schedule,
    Timing,
    Verification,
)
from bench.certified.turns import Turns, seconds_metric
from bench.exhibit import ArmRun, ExhibitSettings, Row, by_seed, row
from bench.record import Record

Role = Literal["mnist", "cifar10", "tiny_imagenet"]
"""A data set of the paper; at a reduced scale another one may stand in for it."""

Model = Literal["cnn7", "wide_resnet", "resnext"]
Course = Literal["mnist_70", "cifar_70", "cifar_160", "tin_10", "tin_20"]
"""A data set with a schedule: a block of rows in the paper's tables."""

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
DATASETS: dict[Role, str] = {"mnist": "MNIST", "cifar10": "CIFAR-10", "tiny_imagenet": "TinyImageNet"}

_DATA: dict[Role, Dataset] = {"mnist": "mnist", "cifar10": "cifar10", "tiny_imagenet": "tinyimagenet"}
_NETWORKS: dict[Model, Literal["cnn7", "wide_resnet8", "resnext"]] = {
    "cnn7": "cnn7",
    "wide_resnet": "wide_resnet8",
    "resnext": "resnext",
}


@dataclass(frozen=True)
class Block:
    """Where a block of rows stands in the paper.

    Attributes:
        role: its data set.
        schedule: as published.
    """

    role: Role
    schedule: Schedule

    @property
    def panel(self) -> str:
        """As the published numbers name it, e.g. ``160 (1+80+79)``."""
        return self.schedule.name()


BLOCKS: dict[Course, Block] = {
    "mnist_70": Block("mnist", MNIST_70),
    "cifar_70": Block("cifar10", CIFAR_70),
    "cifar_160": Block("cifar10", CIFAR_160),
    "tin_10": Block("tiny_imagenet", TIN_10),
    "tin_20": Block("tiny_imagenet", TIN_20),
}


@dataclass(frozen=True)
class Variant:
    """Switches of a row of the ablation (Table 4); Tables 1 to 3 use four of them."""

    norm: Literal["full", "convs", "none"] = "full"
    init: Literal["default", "ibp"] = "default"
    regularizers: tuple[Literal["tightness", "relu"], ...] = ()
    bound: Literal["ibp", "crown_ibp"] = "ibp"


BOTH: tuple[Literal["tightness", "relu"], ...] = ("tightness", "relu")
ABLATION: dict[str, Variant] = {
    "r1_no_bn": Variant(norm="none"),
    "r2_bn_conv": Variant(norm="convs"),
    "r3_bn_full": Variant(),
    "r4_init": Variant(init="ibp"),
    "r5_init_tightness": Variant(init="ibp", regularizers=("tightness",)),
    "r6_init_relu": Variant(init="ibp", regularizers=("relu",)),
    "r7_reg_no_init": Variant(regularizers=BOTH),
    "r8_full": Variant(init="ibp", regularizers=BOTH),
}
VARIANTS: dict[str, Variant] = {
    VANILLA: ABLATION["r3_bn_full"],
    CROWN_IBP: Variant(bound="crown_ibp"),
    OURS: ABLATION["r8_full"],
    NO_BN: ABLATION["r1_no_bn"],
    **ABLATION,
}
"""Method of the published numbers -> its switches."""

METHODS = (VANILLA, CROWN_IBP, OURS)


class DataSettings(ExhibitSettings):
    """Data and radius; tags as in the protocol."""

    stand_in: dict[Role, Dataset] = Field(
        default_factory=dict, description="data set of the paper -> data set that stands in for it at this scale"
    )
    eps: dict[Role, float] = Field(
        default_factory=dict, description="target radius at this scale, pixels from 0 to 1; other radii scale with it"
    )
    eps_is: Literal["exact", "code"] = Field("exact", description="8/255 and 1/255, or the code's 0.03137 and 0.00392")

    def dataset(self, role: Role) -> Dataset:
        return self.stand_in.get(role, _DATA[role])

    def target(self, role: Role) -> float:
        """Target radius of a data set at this scale."""
        return self.eps.get(role, EPS[self.dataset(role)][self.eps_is])

    def radius(self, role: Role, published: float) -> float:
        """A radius of the paper, scaled as the data set's target is."""
        return published * self.target(role) / EPS[_DATA[role]]["exact"]


class CertifiedSettings(DataSettings):
    """Settings of every exhibit that trains networks; tags as in the protocol."""

    selects = DataSettings.selects | {"verify_with", "pgd_steps"}

    schedules: dict[Course, Schedule] = Field(
        default_factory=dict, description="schedules at this scale; the paper's where nothing is said"
    )
    population: dict[Role, int] = Field(
        default_factory=dict, description="training samples in all; the whole set where nothing is said"
    )
    test_images: dict[Role, int] = Field(
        default_factory=dict, description="test images at most; the whole set where nothing is said"
    )
    classes: dict[Role, int] = Field(
        default_factory=dict, description="the first so many classes alone; all where nothing is said"
    )
    batch: dict[Role, int] = Field(
        default_factory=dict, description="samples of a step; the paper's where nothing is said"
    )
    widths: dict[Model, int] = Field(
        default_factory=dict, description="first width of a network; the paper's where nothing is said"
    )
    units: int = Field(512, ge=1, le=8192, description="units of the hidden linear layer [C]")
    tin_lambda_0: float = Field(0.2, ge=0, le=100, description="weight of the regularisers on TinyImageNet [C]")
    lr: float = Field(5e-4, gt=0, le=1, description="learning rate of Adam [C]")
    halve_after_add: bool = Field(True, description="residual halving of the IBP initialisation [C, October 2021]")
    l_relu: Literal["skip", "code"] = Field("skip", description="L_relu of a layer without active neurons [P], [C]")
    report: Literal["last", "best_on_test", "best_on_val"] = Field(
        "last", description="epoch that is reported; the paper does not say [U]"
    )
    holdout: int = Field(0, ge=0, description="training samples held out for best_on_val")
    bn_statistics: Literal["running", "population"] = Field("running", description="BatchNorm at evaluation [C]")
    precision: Literal["float32", "bf16"] = Field("float32", description="arithmetic of training")
    pgd_steps: int = Field(40, ge=1, le=10_000, description="steps of the attack that bounds the verified error below")
    verify_with: tuple[Method, ...] = Field(
        ("ibp", "crown_ibp"), min_length=1, description="bounds of the verification, through auto_LiRPA"
    )

    def schedule(self, course: Course) -> Schedule:
        return self.schedules.get(course, BLOCKS[course].schedule)

    def network(self, model: Model, norm: str = "full") -> Network:
        return Network.model_validate(
            {"name": _NETWORKS[model], "norm": norm, "width": self.widths.get(model), "units": self.units}
        )

    def training(
        self, course: Course, model: Model, method: str, seed: int, *, radius: float | None = None, **fields: Any
    ) -> Certified:
        """A run of a method with the paper's surroundings; `fields` override them.

        Args:
            radius: a radius of the paper other than the data set's target.
        """
        role, variant = BLOCKS[course].role, VARIANTS[method]
        own = self.target(role) if radius is None else self.radius(role, radius)
        is_default = math.isclose(own, EPS[self.dataset(role)]["exact"])
        chosen: dict[str, Any] = {
            "seed": seed,
            "dataset": self.dataset(role),
            "network": self.network(model, variant.norm),
            "init": variant.init,
            "regularizers": variant.regularizers,
            "lambda_0": self.tin_lambda_0 if role == "tiny_imagenet" and variant.regularizers else None,
            "bound": variant.bound,
            "eps": None if is_default else own,
            "schedule": self.schedule(course),
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
        return Certified(**{**chosen, **fields})

    def verification(self, trained: Certified, **fields: Any) -> Verification:
        """The verification of a network on its scale's whole test set."""
        return Verification(
            **{
                "seed": trained.seed,
                "parent": trained,
                "methods": self.verify_with,
                "pgd_steps": self.pgd_steps,
                **fields,
            }
        )


def labels_of(course: Course, model: Model, method: str, *, eps: float | None = None) -> dict[str, Any]:
    """Labels that the published numbers have; `eps` is the paper's radius also where a scale reduces it."""
    block = BLOCKS[course]
    radius = EPS[_DATA[block.role]]["exact"] if eps is None else eps
    return {
        "panel": block.panel,
        "dataset": block.role,
        "model": model,
        "method": method,
        "optimizer": "adam",
        "x_name": "eps",
        "x": round(radius, 9),
    }


def trained_and_verified(
    settings: CertifiedSettings, course: Course, model: Model, method: str, seeds: Iterable[int], **fields: Any
) -> list[ArmRun]:
    """Each seed's run, for its best epoch, and its verification, for its errors, under the same labels."""
    labels = labels_of(course, model, method)
    made = []
    for seed in seeds:
        trained = settings.training(course, model, method, seed, **fields)
        made += [ArmRun(labels, trained), ArmRun(labels, settings.verification(trained))]
    return made


def error_rows(member: ArmRun, record: Record) -> Iterable[Row]:
    """Errors in percent: verified through auto_LiRPA, and those of the best epoch from the training.

    ``standard_error``, ``verified_error`` (IBP), ``verified_error_<method>``, ``pgd_error``, ``test_images``; from the
    training ``best_standard_error``, ``best_verified_error`` (optimistic: chosen on the test set), ``at_protocol`` (1
    where nothing departs from the paper).
    """
    if isinstance(member.spec, Verification):
        yield row(member, "standard_error", record.metrics["standard_error"])
        yield row(member, "pgd_error", record.metrics["pgd_error"])
        for method in member.spec.methods:
            name = "verified_error" if method == "ibp" else f"verified_error_{method}"
            yield row(member, name, record.metrics[f"verified_error_{method}"])
        yield row(member, "test_images", record.metrics["samples"])
    elif isinstance(member.spec, Certified):
        for name in ("best_standard_error", "best_verified_error"):
            yield row(member, name, record.metrics[name])
        yield row(member, "at_protocol", float(at_protocol(member)))


def at_protocol(member: ArmRun) -> bool:
    """Whether a training has the paper's data, network, radius and schedule: only then do absolute errors compare."""
    spec = member.spec
    assert isinstance(spec, Certified)
    paper = next(block for block in BLOCKS.values() if block.panel == member.labels["panel"])
    return (
        spec.dataset == _DATA[paper.role]
        and spec.schedule == paper.schedule
        and abs(spec.target - member.labels["x"]) < 1e-4
        and (spec.network.width, spec.network.units) == (None, 512)
        and spec.first_classes is spec.population is spec.report_samples is None
    )


def cells_of(frame: Any, *columns: str, metric: str = "verified_error", **labels: Any) -> list[dict[str, Any]]:
    """The distinct values of some label columns among the rows of one number.

    Raises:
        KeyError: there are none.
    """
    chosen = frame[frame["metric"] == metric]
    for name, value in labels.items():
        allowed = value if isinstance(value, list | tuple) else [value]
        chosen = chosen[chosen[name].isin(allowed)]
    if chosen.empty:
        raise KeyError(f"{metric} {labels}")
    return chosen[list(columns)].drop_duplicates().to_dict("records")


def lower(frame: Any, metric: str, method: str, than: str, *, by: float = 0.0, **cell: Any) -> stats.Finding:
    """Whether a method's number lies below another's by more than `by`, paired by seed."""
    mine, other = (by_seed(frame, metric, method=name, **cell) for name in (method, than))
    where = ", ".join(str(value) for value in cell.values())
    return stats.greater(other, mine, by=by, name=f"{NAMES[than]} - {NAMES[method]}, {metric}, {where}")


def among(values: Mapping[int, float], seeds: Iterable[int]) -> dict[int, float]:
    """The values of those seeds: models that were repeated unequally often are paired where both were run."""
    wanted = set(seeds)
    return {seed: value for seed, value in values.items() if seed in wanted}


def absolute(frame: Any, outcome: stats.Finding, **cell: Any) -> stats.Finding:
    """A test against a number of other work: it says something at the paper's protocol only."""
    if all(by_seed(frame, "at_protocol", **cell).values()):
        return outcome
    detail = f"{outcome.detail}; an absolute error, at another protocol than the paper's"
    return replace(outcome, verdict="not comparable", detail=detail)


def substitution(
    settings: CertifiedSettings, course: Course, *, parts: int = 1, radius: bool = True, schedule: bool = True
) -> str:
    """Data set, radius and schedule for titles, with what departs from the paper.

    Args:
        parts: lines that the title may take.
        radius: whether to name the course's; an exhibit may have its own.
        schedule: whether to name it.
    """
    role = BLOCKS[course].role
    actual, own = settings.dataset(role), settings.target(role)
    texts = [DATASETS[role] if actual == _DATA[role] else f"{DATASETS[role]} (generated images)"]
    if radius:
        texts.append(f"eps {radius_text(own)}")
    if role in settings.classes:
        texts.append(f"{settings.classes[role]} classes")
    if role in settings.population:
        texts.append(f"{min(settings.population[role], SHAPES[actual][2]):,} images")
    if schedule:
        texts.append(f"{settings.schedule(course).name()} epochs")
    cut = len(texts) if parts == 1 else len(texts) - 1
    return ", ".join(texts[:cut]) + (",\n" + ", ".join(texts[cut:]) if texts[cut:] else "")


def radius_text(radius: float) -> str:
    """``8/255`` for a multiple of 1/255 up to 32, else a decimal number."""
    steps = radius * 255
    return f"{round(steps)}/255" if steps < 32.5 and abs(steps - round(steps)) < 1e-6 else f"{radius:.4g}"


def departure(settings: CertifiedSettings, course: Course) -> str:
    """``160 (1+80+79)``, and the schedule at this scale behind an arrow where it is another."""
    published, own = BLOCKS[course].panel, settings.schedule(course).name()
    return published if own == published else f"{published} → {own}"


def ratio(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """Seed -> first over second, of the seeds that both have."""
    return {seed: value / second[seed] for seed, value in first.items() if seed in second}


def in_turns(
    settings: CertifiedSettings, course: Course, model: Model, seed: int, *, repeats: int, steps: int | None
) -> Turns:
    """One measurement of the methods' times, which are compared."""
    trainings = [settings.training(course, model, method, seed) for method in METHODS]
    timings = tuple(Timing(seed=seed, of=training, repeats=repeats, steps=steps) for training in trainings)
    return Turns(seed=seed, names=METHODS, of=timings)


def timed(frame: Any) -> Any:
    """The frame of a table of times.

    Raises:
        KeyError: it has none, since no run had the machine to itself.
    """
    if not (frame["metric"] == "seconds_per_epoch").any():
        raise KeyError("seconds: no measurement had the machine to itself; RERUN=1 repeats them")
    return frame


def timing_rows(member: ArmRun, record: Record) -> Iterable[Row]:
    """Seconds of an epoch by phase (0, 1, 2 as published) and of the whole schedule, if it had the machine to itself."""
    if not record.alone:
        return
    method = member.labels["method"]
    for number, phase in enumerate(PHASES):
        if (name := seconds_metric(phase, method)) in record.metrics:
            yield row(member, "seconds_per_epoch", record.metrics[name], x_name="phase", x=number)
    yield row(member, "total_seconds", record.metrics[seconds_metric("total", method)])
