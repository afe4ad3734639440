"""Runs of certified training as data: training, verification, bounds at initialisation, timing. Without torch.

Every field's default is the paper's or its code's value, but for `Certified.loss_fusion`, which vanilla IBP does not have;
what a record of each run holds stands in the docstrings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from bench.certified import layer_counts
from bench.certified.eps_schedule import Schedule
from bench.errors import UserError, closest
from bench.run import SMOKE_BATCH, Cost, RunSpec, StrictModel

NARROW_MACS = 1e6
"""Multiply-accumulates of an image below which calls of small operations take most of a step."""


class DataSet(StrictModel):
    """A data set as the paper trains on it; a row of `DATA_SETS`."""

    shape: tuple[int, int, int] = Field(description="channels, height and width of an image")
    classes: int = Field(ge=2, description="number of classes")
    train: int = Field(ge=1, description="number of training samples")
    test: int = Field(ge=1, description="number of test samples (TinyImageNet: of validation samples)")
    eps: float = Field(gt=0, lt=1, description="target radius, pixels from 0 to 1")
    eps_code: float = Field(gt=0, lt=1, description="target radius as the authors' code writes it")
    batch: int = Field(ge=2, description="samples of a step")
    lambda_0: float = Field(ge=0, description="weight of the regularisers at the start of the warm-up")
    crop: int = Field(ge=0, description="pixels of edge padding before the random crop; 0 is no crop")
    flip: bool = Field(description="whether images are mirrored at random")
    mean: tuple[float, ...] = Field(description="mean by channel that images are normalised with")
    std: tuple[float, ...] = Field(description="standard deviation by channel that images are normalised with")

    @model_validator(mode="after")
    def _by_channel(self) -> Self:
        if not self.shape[0] == len(self.mean) == len(self.std):
            raise ValueError(f"{self.shape[0]} channels, {len(self.mean)} means, {len(self.std)} standard deviations")
        return self


def data_sets(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, DataSet]:
    """The rows as `DataSet`s.

    Raises:
        UserError: a row is incomplete or wrong; one line names the row and its fields.
    """
    table = {}
    for name, row in rows.items():
        try:
            table[name] = DataSet.model_validate(row)
        except ValidationError as error:
            missing = [str(item["loc"][0]) for item in error.errors() if item["type"] == "missing"]
            wrong = [
                f"{'.'.join(map(str, item['loc'])) or 'row'}: {item['msg'].removeprefix('Value error, ')}"
                for item in error.errors()
                if item["type"] != "missing"
            ]
            text = "; ".join([f"lacks {', '.join(missing)}"] * bool(missing) + wrong)
            raise UserError(
                f"data set '{name}' of certified training: {text} (DATA_SETS in bench/certified/spec.py)"
            ) from None
    return table


DATA_SETS = data_sets(
    {
        "mnist": {
            "shape": (1, 28, 28),
            "classes": 10,
            "train": 60_000,
            "test": 10_000,
            "eps": 0.4,
            "eps_code": 0.4,
            "batch": 256,
            "lambda_0": 0.5,
            "crop": 0,
            "flip": False,
            "mean": (0.0,),
            "std": (1.0,),
        },
        "cifar10": {
            "shape": (3, 32, 32),
            "classes": 10,
            "train": 50_000,
            "test": 10_000,
            "eps": 8 / 255,
            "eps_code": 0.03137,
            "batch": 128,
            "lambda_0": 0.5,
            "crop": 2,
            "flip": True,
            "mean": (0.4914, 0.4822, 0.4465),
            "std": (0.2023, 0.1994, 0.2010),
        },
        "tinyimagenet": {
            "shape": (3, 64, 64),
            "classes": 200,
            "train": 100_000,
            "test": 10_000,
            "eps": 1 / 255,
            "eps_code": 0.00392,
            "batch": 128,
            "lambda_0": 0.2,  # the README's command; its text has 0.1
            "crop": 4,
            "flip": True,
            "mean": (0.4802, 0.4481, 0.3975),
            "std": (0.2302, 0.2265, 0.2262),
        },
        "synthetic_certified": {
            "shape": (3, 12, 12),
            "classes": 5,
            "train": 800,
            "test": 5_000,
            "eps": 0.025,
            "eps_code": 0.025,
            "batch": 32,
            "lambda_0": 0.5,
            "crop": 0,
            "flip": False,
            "mean": (0.5, 0.5, 0.5),
            "std": (1.0, 1.0, 1.0),
        },
    }
)
"""Data sets by name, with the values of bench/certified/protocol.md, sections b and d. A further one is a further row."""


def _known(name: str) -> str:
    if name not in DATA_SETS:
        raise ValueError(f"unknown data set '{name}'{closest(name, DATA_SETS)}")
    return name


Dataset = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": [*DATA_SETS]})]
"""Name of a row of `DATA_SETS`."""

Init = Literal[
    "default",
    "torch_default",
    "ibp",
    "kaiming_uniform",
    "kaiming_normal",
    "kaiming_fan_out",
    "xavier_uniform",
    "xavier_normal",
    "orthogonal",
]
Bound = Literal["ibp", "crown_ibp", "crown", "alpha_crown"]


class Network(StrictModel):
    """A network and its options; widths scale everything but the stem of the Wide-ResNet."""

    name: Literal["cnn7", "wide_resnet8", "resnext"] = Field("cnn7", description="architecture")
    norm: Literal["full", "convs", "partial", "none"] = Field(
        "full",
        description=(
            "BatchNorm: everywhere, after convolutions only (CNN-7), as earlier TinyImageNet models had it "
            "(CNN-7: convolutions 1 to 4; ResNeXt: after each block's first convolution), nowhere"
        ),
    )
    width: int | None = Field(None, ge=1, le=1024, description="first width; None is the paper's for the image size")
    units: int = Field(512, ge=1, le=8192, description="units of the hidden linear layer")

    @model_validator(mode="after")
    def _known(self) -> Self:
        has = {"cnn7": ("full", "convs", "partial", "none"), "resnext": ("full", "partial", "none")}
        if self.norm not in has.get(self.name, ("full", "none")):
            raise ValueError(f"{self.name} has no variant '{self.norm}' of BatchNorm")
        return self

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the builder that depart from its defaults."""
        defaults = {"norm": "full", "width": None, "units": 512}
        values = {name: getattr(self, name) for name in defaults}
        return {name: value for name, value in values.items() if value != defaults[name]}

    def layers(self, shape: tuple[int, int, int], classes: int) -> list[layer_counts.Layer]:
        """Convolutions and linear layers in the order of the forward pass."""
        large = shape[1] >= 64
        paper = {"cnn7": 64, "wide_resnet8": 160 if large else 128, "resnext": 16 if large else 64}[self.name]
        count = {
            "cnn7": layer_counts.cnn7,
            "wide_resnet8": layer_counts.wide_resnet8,
            "resnext": layer_counts.resnext,
        }[self.name]
        return list(count(shape, classes, self.width or paper, self.units, self.norm))


class Recipe(StrictModel):
    """What newer recipes change in the robust loss; the defaults are the paper's loss."""

    objective: Literal["ibp", "mtl_ibp", "sabr"] = Field(
        "ibp", description="robust loss: of the box; mixed with an adversarial loss; of a small box around an attack"
    )
    robust_weight: float = Field(
        1.0, ge=0, le=1, description="weight of the robust loss; the rest is clean (MTL-IBP: adversarial) loss"
    )
    box_share: float = Field(1.0, gt=0, le=1, description="SABR: radius of the small box as a share of eps")
    l1: float = Field(0.0, ge=0, description="weight of the sum of absolute weights")
    attack_steps: int = Field(8, ge=1, le=200, description="PGD steps in training (MTL-IBP, SABR)")
    attack_step: float = Field(0.25, gt=0, le=2, description="size of a PGD step as a share of eps")


class Certified(RunSpec):
    """One training of certified robustness.

    Rows of Table 4 as fields: r1 ``network.norm="none"``; r2 ``norm="convs"``; r3 (vanilla) all defaults; r4
    ``init="ibp"``; r5 ``init="ibp", regularizers=("tightness",)``; r6 ``("relu",)``; r7 both and ``init="default"``; r8
    (ours) both and ``init="ibp"``. The CROWN-IBP baseline is vanilla with ``bound="crown_ibp", loss_fusion=True``.

    A record has (errors in percent, on the test set, verified ones by interval bounds):

    metrics
        ``standard_error``, ``verified_error``: of the epoch that `report` names (the last by default);
        ``reported_epoch``: that epoch, from 1;
        ``last_standard_error``, ``last_verified_error``;
        ``best_standard_error``, ``best_verified_error``, ``best_epoch``: of the epoch at the target eps with the least
        verified error on the test set (optimistic: chosen on what is reported);
        ``val_best_standard_error``, ``val_best_verified_error``, ``val_best_epoch``: chosen on held-out training
        samples; only with `holdout`;
        ``train_error``, ``train_verified_error``: running means of the last epoch.
    series ``epochs``, a row for each epoch
        ``epoch`` from 1; ``phase`` zero, ramp or final; ``eps`` reached at its end, with which it is evaluated; ``lr``;
        ``train_loss``, ``train_error``, ``train_verified_error`` (running means in train mode; with eps = 0 and without
        regularisers verified equals standard; with `loss_fusion` by IBP on the ramp too); ``standard_error``,
        ``verified_error`` (at this eps), ``tightness``, ``relu`` (both regularisers on the test set, also where their
        weight is 0; eps = 0 is taken as 1e-6; a layer without an active neuron counts 2 in ``relu``, as in the authors'
        log);
        ``seconds`` of training, ``seconds_test``; with `holdout` also ``val_standard_error``, ``val_verified_error``.
    series ``layers``, a row for each epoch and ReLU layer, on the test set
        ``epoch``, ``layer`` from 1, shares ``active``, ``inactive``, ``unstable`` (sum 1), ``radius`` (mean).
    series ``radii``, at the ends of the eps = 0 phase (eps taken as 1e-6), of each quarter of the ramp and of training
        ``epoch``, ``layer``, ``state`` (active, inactive, unstable), ``share``, ``radius`` (mean over the neurons in
        that state; a state without neurons has no row).
    series ``phases``, a row for each phase that has epochs
        ``phase``, ``epochs``, ``seconds_per_epoch`` (training only, the first epoch of the run left out if others are).
    costs
        ``samples``, ``steps``, ``seconds`` (training), ``seconds_test``.
    artefact ``weights``
        of the reported epoch, with BatchNorm's running statistics.
    """

    kind: ClassVar[str] = "certified"
    trainer: ClassVar[str] = "bench.certified.train"

    dataset: Dataset = Field("cifar10", description="data set")
    network: Network = Field(default_factory=Network, description="network")
    init: Init = Field("default", description="initial weights; default is the network's own, as in the authors' code")
    halve_after_add: bool = Field(True, description="IBP init: halve weights that read ReLU(a + b) (October 2021 code)")
    bound: Literal["ibp", "crown_ibp"] = Field("ibp", description="bound of the warm-up loss")
    loss_fusion: bool = Field(
        False, description="CROWN-IBP: bound the loss itself (published runs) instead of each margin of a matrix"
    )
    regularizers: tuple[Literal["tightness", "relu", "std"], ...] = Field(
        (), description="regularisers of the warm-up (Equations 7 and 8; std is an extra of two code versions)"
    )
    lambda_0: float | None = Field(None, ge=0, le=100, description="their weight at the start; None is the data set's")
    tau: float = Field(0.5, gt=0, le=10, description="tolerance of the regularisers (authors' code)")
    l_relu: Literal["skip", "code"] = Field(
        "skip",
        description="layers without an active or inactive neuron in training: left out (paper), or a constant 2 (code)",
    )
    eps: float | None = Field(None, gt=0, lt=1, description="target radius in pixel units of 0 to 1; None: data set's")
    schedule: Schedule = Field(default_factory=Schedule, description="epochs, eps and learning rate")
    lr: float = Field(5e-4, gt=0, le=1, description="learning rate of Adam")
    lr_decay: float = Field(0.2, gt=0, le=1, description="factor at each milestone (authors' code)")
    batch: int | None = Field(None, ge=2, le=8192, description="samples of a step; None is the data set's")
    micro_batch: int | None = Field(
        None,
        ge=2,
        description="accumulate gradients over parts of a batch of this size, each with its own BatchNorm statistics "
        "(authors: 64 on TIN)",
    )
    clip: float = Field(10.0, gt=0, description="largest gradient norm (authors' code)")
    crop: int | None = Field(None, ge=0, le=16, description="padding of the random crop; None is the data set's")
    flip: bool | None = Field(None, description="random mirroring; None is the data set's")
    recipe: Recipe = Field(default_factory=Recipe, description="robust loss")
    precision: Literal["float32", "bf16"] = Field("float32", description="arithmetic of training; evaluation: float32")
    tf32: bool = Field(False, description="allow TF32 in training on a GPU; evaluation never does")
    bn_statistics: Literal["running", "population"] = Field(
        "running", description="BatchNorm at evaluation: running averages, or means over the training set (CTBench)"
    )
    report: Literal["last", "best_on_test", "best_on_val"] = Field(
        "last", description="epoch that is reported and kept; best_on_test is optimistic"
    )
    holdout: int = Field(0, ge=0, description="training samples held out for the choice of an epoch")
    first_classes: int | None = Field(None, ge=2, description="number of classes, the first ones; None is all of them")
    population: int | None = Field(None, ge=4, description="number of training samples in all; None is the whole set")
    report_samples: int | None = Field(None, ge=1, description="number of test samples; None is the whole set")
    generated: int | None = Field(
        None, ge=2, description="number of generated training samples of the true shape, in place of the data set's"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.first_classes or 0) > DATA_SETS[self.dataset].classes:
            raise ValueError(f"{self.dataset} has {DATA_SETS[self.dataset].classes} classes, not {self.first_classes}")
        if self.report == "best_on_val" and not self.holdout:
            raise ValueError("report best_on_val needs a holdout, e.g. 5000")
        if self.fit_samples() < 2:
            raise ValueError(f"holdout {self.holdout} leaves nothing of {self.train_samples()} samples to train on")
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise ValueError(f"batch {self.batch_size} is no multiple of micro_batch {self.micro_batch}")
        if self.loss_fusion and self.bound != "crown_ibp":
            raise ValueError("loss_fusion goes with bound crown_ibp only")
        if self.recipe.objective != "ibp" and self.bound != "ibp":
            raise ValueError(f"objective {self.recipe.objective} goes with bound ibp only")
        return self

    @property
    def target(self) -> float:
        """Target eps."""
        return DATA_SETS[self.dataset].eps if self.eps is None else self.eps

    @property
    def batch_size(self) -> int:
        return DATA_SETS[self.dataset].batch if self.batch is None else self.batch

    @property
    def weight(self) -> float:
        """lambda_0."""
        return DATA_SETS[self.dataset].lambda_0 if self.lambda_0 is None else self.lambda_0

    def augmentation(self) -> tuple[int, bool]:
        """Padding of the crop, and whether images are mirrored."""
        data = DATA_SETS[self.dataset]
        return (data.crop if self.crop is None else self.crop, data.flip if self.flip is None else self.flip)

    def shape(self) -> tuple[int, int, int]:
        return DATA_SETS[self.dataset].shape

    def classes(self) -> int:
        return self.first_classes or DATA_SETS[self.dataset].classes

    def _of_classes(self, samples: int) -> int:
        """Number of samples that belong to the classes in use, as if all classes had equally many."""
        return samples * self.classes() // DATA_SETS[self.dataset].classes

    def train_samples(self) -> int:
        """Training samples that are used, the held-out ones included; fewer where the copy at hand has fewer."""
        available = self.generated or self._of_classes(DATA_SETS[self.dataset].train)
        return min(available, self.population or available)

    def fit_samples(self) -> int:
        return self.train_samples() - self.holdout

    def test_samples(self) -> int:
        available = self.batch_size if self.generated else self._of_classes(DATA_SETS[self.dataset].test)
        return min(available, self.report_samples or available)

    def steps_per_epoch(self) -> int:
        """L of the schedule; the last partial batch counts (and one of a single sample is dropped)."""
        return math.ceil(self.fit_samples() / self.batch_size)

    def layers(self) -> list[layer_counts.Layer]:
        return self.network.layers(self.shape(), self.classes())

    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers())

    def macs(self) -> int:
        """Multiply-accumulates of a forward pass for one image."""
        return sum(layer.macs for layer in self.layers())

    def passes(self, phase: str) -> float:
        """Forward passes' worth of work of a training step: clean, centre and radius, each also twice backward."""
        bounded = phase != "zero" or bool(self.regularizers)
        work = 9.0 if bounded else 3.0
        if phase == "ramp" and self.bound == "crown_ibp":
            work += 4.0 * self._backward_rows()
        if phase != "zero" and self.recipe.objective != "ibp":
            work += 2.0 * self.recipe.attack_steps + 3.0
        return work

    def _backward_rows(self) -> int:
        """Linear functions of the logits that CROWN-IBP bounds for a sample."""
        return 1 if self.loss_fusion else self.classes() - 1

    def cost(self) -> Cost:
        schedule, fit = self.schedule, self.fit_samples()
        train = sum(epochs * self.passes(phase) for phase, epochs in schedule.lengths().items()) * fit
        test = 3.0 * schedule.epochs * (self.test_samples() + self.holdout)
        neurons = sum(layer.neurons for layer in self.layers())
        # About twelve float32 tensors of every pre-activation live between the forward and the backward pass, and a fifth
        # more are freed blocks that the process keeps (`bench.workflow.execute.keep_freed`).
        at_once = self.micro_batch or self.batch_size
        streams = 58.0 * neurons * at_once
        if self.bound == "crown_ibp":
            # auto_LiRPA keeps twice as much, and coefficients of backward bounds: of as many rows at once as fit into 2 GB,
            # but of one at least. Measured with loss fusion: 149 to 180 bytes of each pre-activation of a Wide-ResNet.
            streams = 140.0 * neurons * at_once
            streams += max(24.0 * neurons * at_once, min(2e9, 16.0 * self._backward_rows() * neurons * at_once))
        memory = layer_counts.PROCESS_MB + (streams + 20 * self.parameters()) / 2**20
        kind = f"certified_{self.precision}" if self.macs() >= NARROW_MACS else "certified_narrow"
        return Cost(float(schedule.epochs * fit), 2 * self.macs() * (train + test), "samples", kind, round(memory))

    def method(self) -> str:
        """The row's name for people."""
        parts = ["ours" if self._ours() else "CROWN-IBP" if self.bound == "crown_ibp" else "vanilla"]
        if not self._ours():
            parts += ["IBP init"] if self.init == "ibp" else [] if self.init == "default" else [self.init]
            parts += [f"L_{name}" for name in self.regularizers]
        if self.network.norm != "full":
            parts.append({"none": "no BN", "convs": "BN after convs", "partial": "partial BN"}[self.network.norm])
        if self.recipe.objective != "ibp":
            parts.append(self.recipe.objective)
        if self.recipe.robust_weight != 1:
            parts.append(f"robust weight {self.recipe.robust_weight:g}")
        return " ".join(parts)

    def _ours(self) -> bool:
        return self.init == "ibp" and set(self.regularizers) >= {"tightness", "relu"} and self.bound == "ibp"

    def label(self) -> str:
        return (
            f"certified {self.dataset} {self.network.name} {self.method()} eps {self.target:.4g} "
            f"{self.schedule.name()} seed {self.seed}"
        )

    def keeps(self) -> tuple[str, ...]:
        return ("weights",)

    def data(self) -> tuple[str, ...]:
        return () if self.generated else (self.dataset,)

    def code(self) -> tuple[str, ...]:
        from bench import models

        return (models.module_of(self.network.name),)

    def smoke(self) -> Certified:
        """Two steps of the ramp on generated samples of the true shape, with the default of what selects no code."""
        # Backward bounds of 199 margins take minutes a sample on a CPU, and their memory is large at any number.
        batch = min(self.batch_size, 2 if self.bound == "crown_ibp" else SMOKE_BATCH)
        holdout = min(self.holdout, batch)
        shares = {"robust_weight": 0.5} if self.recipe.robust_weight < 1 else {}
        shares |= {"box_share": 0.5} if self.recipe.objective == "sabr" else {}
        return self.model_copy(
            update={
                "seed": 0,
                "generated": 2 * batch + holdout,
                "holdout": holdout,
                "population": None,
                "report_samples": None,
                "eps": None,
                "lambda_0": None,
                "lr": 5e-4,
                "batch": batch,
                "micro_batch": max(2, batch // 2) if self.micro_batch else None,
                "recipe": self.recipe.model_copy(update=shares),
                "schedule": self.schedule.model_copy(update={"zero": 0, "ramp": 1, "final": 0, "milestones": ()}),
            }
        )


class Verification(RunSpec):
    """Verified error of a trained network with auto_LiRPA, and the error under attack.

    A record has (errors in percent):

    metrics
        ``standard_error`` and ``verified_error_ibp`` on ``samples`` test samples; ``pgd_error`` and
        ``verified_error_<method>`` for each other of `methods` on the first ``samples_attacked`` of them; ``eps``. Each
        sample is checked: misclassified implies attacked, attacked implies not verified.
    costs
        ``seconds_pgd``, ``seconds_<method>``.
    notes
        ``auto_lirpa``, its version; ``dtype``.
    """

    kind: ClassVar[str] = "certified/verification"
    trainer: ClassVar[str] = "bench.certified.verify"

    parent: Certified = Field(description="run whose weights are verified")
    eps: float | None = Field(None, gt=0, lt=1, description="radius; None is the one that the network was trained for")
    methods: tuple[Bound, ...] = Field(("ibp", "crown_ibp"), min_length=1, description="bounds, through auto_LiRPA")
    pgd_steps: int = Field(40, ge=1, le=10_000, description="steps of the attack")
    pgd_restarts: int = Field(1, ge=1, le=100, description="random starts of the attack")
    pgd_step: float = Field(
        0.1, gt=0, le=2, description="size of a step as a share of eps; a quarter after half of them"
    )
    samples: int | None = Field(
        None, ge=1, description="number of test samples to verify; None: those the parent reports on"
    )
    ibp_samples: int | None = Field(
        None,
        ge=1,
        description="number of test samples of interval bounds and standard error, where it is more; None: `samples`",
    )
    batch: int | None = Field(None, ge=1, le=10_000, description="samples at once; None is chosen by memory")
    dtype: Literal["float32", "float64"] = Field("float32", description="arithmetic; never TF32")
    alpha_iterations: int = Field(20, ge=1, le=1000, description="optimisation steps of alpha-CROWN")

    @property
    def radius(self) -> float:
        return self.parent.target if self.eps is None else self.eps

    @model_validator(mode="after")
    def _of_interval_bounds(self) -> Self:
        if self.ibp_samples is not None and "ibp" not in self.methods:
            raise ValueError("ibp_samples goes with method ibp only")
        return self

    def attacked_samples(self) -> int:
        """Number of test samples that are attacked and bounded by every method."""
        return min(self.samples or self.parent.test_samples(), self.parent.test_samples())

    def test_samples(self) -> int:
        """Number of test samples of the standard error and the interval bounds."""
        whole = self.parent.model_copy(update={"report_samples": None}).test_samples()
        return max(self.attacked_samples(), min(self.ibp_samples or 0, whole))

    def cost(self) -> Cost:
        parent, n = self.parent, self.attacked_samples()
        rows = parent.classes() - 1
        neurons = sum(layer.neurons for layer in parent.layers())
        # CROWN bounds every intermediate neuron by a backward pass of its own.
        each = {"ibp": 2.0, "crown_ibp": 2.0 + 2.0 * rows, "crown": float(neurons), "alpha_crown": 3.0 * neurons}
        passes = 1 + 3.0 * self.pgd_steps * self.pgd_restarts + sum(each[method] for method in self.methods)
        # Backward bounds keep copies of the largest layer for each row: 8.3 GB for a Wide-ResNet on TinyImageNet, measured.
        largest = max(layer.neurons for layer in parent.layers())
        copies = layer_counts.backward_rows(
            neurons, parent.classes(), every_neuron=bool(set(self.methods) - {"ibp", "crown_ibp"})
        )
        # By itself `bench.certified.verify.batch_size` takes as many samples as fit.
        at_once = self.batch or max(1, min(250, n, int(layer_counts.BACKWARD_ROOM / (24 * largest * copies))))
        memory = round(1500 + 64 * largest * copies * at_once / 2**20)
        work = passes * n + 3.0 * (self.test_samples() - n)
        return Cost(float(n), 2.0 * parent.macs() * work, "samples", "certified_verify", memory)

    def parameters(self) -> int:
        return 0

    def label(self) -> str:
        parent = self.parent
        return (
            f"verification of {parent.dataset} {parent.network.name} {parent.method()} {parent.schedule.name()} "
            f"at eps {self.radius:.4g} seed {self.seed}"
        )

    def data(self) -> tuple[str, ...]:
        return self.parent.data()

    def code(self) -> tuple[str, ...]:
        return self.parent.code()

    def smoke(self) -> Verification:
        update = {"seed": 0, "parent": self.parent.smoke(), "samples": 2, "pgd_steps": 2, "eps": None, "batch": 1}
        return self.model_copy(update=update | ({"ibp_samples": 3} if self.ibp_samples else {}))


class Initialisation(RunSpec):
    """Interval bounds of an untrained network on one batch of training images (Figure 1, Table 5).

    A record has:

    metrics
        ``growth``: mean radius of the last ReLU layer's input over the input's; ``tightness``: L_tightness, tau 0.5.
    series ``layers``, row 0 for the input and one for the input of each ReLU, in the order of the forward pass
        ``layer`` from 0; ``kind`` (input, conv, linear); ``fan_in``; ``fan_out`` (k^2 times output channels);
        ``radius`` (mean, normalised units; the interval's width is twice that); ``gain`` (measured: radius over the
        last row's; 0 in row 0); ``formula`` (expected gain of this initialisation without BatchNorm, 0 in row 0). For
        residual networks ``fan_in`` and ``formula`` are of the last convolution before the ReLU.
    """

    kind: ClassVar[str] = "certified/initialisation"
    trainer: ClassVar[str] = "bench.certified.init_bounds"

    dataset: Dataset = Field("cifar10", description="data set")
    network: Network = Field(default_factory=lambda: Network(norm="none"), description="network")
    init: Init = Field("torch_default", description="initial weights")
    halve_after_add: bool = Field(True, description="IBP init: halve weights that read ReLU(a + b)")
    eps: float | None = Field(None, gt=0, lt=1, description="radius; None is the data set's target")
    batch: int = Field(128, ge=2, le=1024, description="images")
    mode: Literal["eval", "train"] = Field("eval", description="BatchNorm by running or by batch statistics")
    generated: int | None = Field(None, ge=2, description="number of generated samples of the true shape")

    def cost(self) -> Cost:
        data = DATA_SETS[self.dataset]
        layers = self.network.layers(data.shape, data.classes)
        flops = 6.0 * sum(layer.macs for layer in layers) * self.batch
        memory = layer_counts.PROCESS_MB + 24 * sum(layer.neurons for layer in layers) * self.batch / 2**20
        return Cost(float(self.batch), flops, "samples", "certified_float32", round(memory))

    def parameters(self) -> int:
        return 0

    def label(self) -> str:
        mode = "" if self.network.norm == "none" else f" {self.mode} mode"
        return f"bounds at init of {self.dataset} {self.network.name} {self.init}{mode} seed {self.seed}"

    def data(self) -> tuple[str, ...]:
        return () if self.generated else (self.dataset,)

    def code(self) -> tuple[str, ...]:
        from bench import models

        return (models.module_of(self.network.name),)

    def smoke(self) -> Initialisation:
        batch = min(self.batch, SMOKE_BATCH)
        return self.model_copy(update={"seed": 0, "batch": batch, "generated": batch, "eps": None})


def seconds_metric(span: str, name: str) -> str:
    """Metric of a `TimingComparison`: seconds of an epoch of a phase, or of the whole schedule (``total``)."""
    return f"seconds_{span}_{name}"


class TimingComparison(RunSpec):
    """Seconds of a training epoch in each phase, of trainings that alternate on the machine at hand (Table 3).

    They alternate since the speed of a machine drifts: slow minutes meet all of them alike.

    A record has, for each name of `names`:

    metrics
        ``seconds_zero_<name>``, ``seconds_ramp_<name>``, ``seconds_final_<name>``: a training epoch of each phase that
        the schedule has, evaluation left out; ``seconds_total_<name>``: summed over the schedule. They depend on the
        machine and are no part of a bit-for-bit comparison.
    series ``epochs``
        ``name``, ``phase``, ``repeat`` from 0, ``seconds_epoch`` (scaled to a whole epoch from `steps`).
    """

    kind: ClassVar[str] = "certified/timing"
    trainer: ClassVar[str] = "bench.certified.timing"
    whole_machine: ClassVar[bool] = True

    names: tuple[str, ...] = Field(min_length=1, description="names of the trainings, in the order of `of`")
    of: tuple[Certified, ...] = Field(min_length=1, description="trainings whose epochs are timed; their data are used")
    repeats: int = Field(3, ge=1, le=100, description="timed epochs of each phase, after one that warms up")
    steps: int | None = Field(
        None, ge=2, description="number of steps that are timed and scaled to an epoch; None is a whole epoch"
    )

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if len(set(self.names)) != len(self.of) or len(self.names) != len(self.of):
            raise ValueError(f"{len(self.of)} trainings need as many different names, not {', '.join(self.names)}")
        return self

    def cost(self) -> Cost:
        amount, flops, memory = 0.0, 0.0, float(layer_counts.PROCESS_MB)
        for training in self.of:
            steps = min(self.steps or training.steps_per_epoch(), training.steps_per_epoch())
            samples = (self.repeats + 1) * steps * training.batch_size
            phases = [phase for phase, epochs in training.schedule.lengths().items() if epochs]
            amount += 3.0 * samples
            flops += 2 * training.macs() * sum(map(training.passes, phases)) * samples
            memory += training.cost().memory_mb - layer_counts.PROCESS_MB
        return Cost(amount, flops, "samples", self.of[0].cost().kind, round(memory))

    def parameters(self) -> int:
        return 0

    def label(self) -> str:
        first = self.of[0]
        return f"timing of {first.dataset} {first.network.name}, {', '.join(self.names)}, seed {self.seed}"

    def data(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for training in self.of for name in training.data()))

    def code(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(module for training in self.of for module in training.code()))

    def smoke(self) -> TimingComparison:
        trainings = tuple(training.smoke() for training in self.of)
        return self.model_copy(update={"seed": 0, "of": trainings, "repeats": 1, "steps": 2})
