"""A warm-start run as data: a list of rounds, and the options in which the paper, its code and replications differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bench.run import SMOKE_BATCH, Cost, RunSpec, StrictModel

SHAPES: dict[str, tuple[tuple[int, int, int], int, int, int]] = {
    "cifar10": ((3, 32, 32), 10, 50_000, 10_000),
    "cifar100": ((3, 32, 32), 100, 50_000, 10_000),
    "svhn": ((3, 32, 32), 10, 73_257, 26_032),
    "synthetic": ((3, 12, 12), 10, 3_000, 1_000),
    "synthetic_b": ((3, 12, 12), 10, 3_000, 1_000),
    "synthetic_100": ((3, 12, 12), 20, 3_000, 1_000),
}
"""Data set -> shape of an image, classes, training samples, test samples."""

NARROW_MACS = 20e6
"""Multiply-accumulates of an image below which a ResNet reaches a smaller part of a machine's speed."""

TINY_MACS = 3e6
"""Multiply-accumulates of an image below which it reaches a still smaller part, and evaluation weighs more."""

Dataset = Literal["cifar10", "cifar100", "svhn", "synthetic", "synthetic_b", "synthetic_100"]
Model = Literal["thin_resnet18", "resnet18", "mlp", "logistic"]
BNStatistics = Annotated[
    Literal["running", "population"],
    Field(
        description="BatchNorm when accuracy is reported: running averages, or means over the samples fitted; when "
        "gradients are measured (Figure 5): running averages, or those of the batch"
    ),
]


class Network(StrictModel):
    """A network and its options."""

    name: Model = Field("thin_resnet18", description="network; the paper's ResNet is the authors' thin ResNet-18")
    width: int | None = Field(None, ge=1, le=1024, description="first width; None is the network's own")
    activation: Literal["tanh", "relu"] | None = Field(None, description="of the MLP: tanh two-phase, ReLU online")
    bias: bool = Field(True, description="biases of the MLP")
    norm: Literal["batch", "group"] = Field("batch", description="normalisation of the ResNets")

    @model_validator(mode="after")
    def _wide_enough(self) -> Self:
        # torch 2.12's CPU convolutions corrupt memory in channels-last layout with fewer channels.
        if self.width is not None and self.width < 8 and self.name in ("thin_resnet18", "resnet18"):
            raise ValueError(f"width {self.width} of {self.name}: expected 8 or more")
        return self

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the builder that depart from its defaults."""
        options: dict[str, Any] = {} if self.width is None else {"width": self.width}
        if self.name == "mlp":
            options |= {"bias": self.bias} | ({} if self.activation is None else {"activation": self.activation})
        if self.name in ("thin_resnet18", "resnet18") and self.norm != "batch":
            options["norm"] = self.norm
        return options

    def macs(self, shape: tuple[int, int, int], classes: int) -> float:
        """Multiply-accumulates of a forward pass for one image."""
        channels, height, width = shape
        if self.name == "logistic":
            return float(channels * height * width * classes)
        if self.name == "mlp":
            hidden = self.width or 100
            return float(channels * height * width * hidden + hidden * hidden + hidden * classes)
        base = self.width or (16 if self.name == "thin_resnet18" else 64)
        # 35.05 M at width 16 on 32 x 32 (bench/warmstart/protocol.md, section a); quadratic in the width but for the stem.
        return 35.05e6 * (base / 16) ** 2 * (height * width / 1024)

    def parameters(self, shape: tuple[int, int, int], classes: int) -> float:
        """Approximate number of parameters, for disk estimates."""
        if self.name in ("mlp", "logistic"):
            return self.macs(shape, classes)
        return 0.7e6 * ((self.width or (16 if self.name == "thin_resnet18" else 64)) / 16) ** 2


class Optimizer(StrictModel):
    """Optimiser of a run; a new object is made at each round, so Adam's moments start at zero (authors' code)."""

    name: Literal["sgd", "adam"] = Field("sgd", description="SGD, or Adam with default betas")
    lr: float = Field(1e-3, gt=0, le=10, description="learning rate, constant unless `schedule` says otherwise")
    batch_size: int = Field(128, ge=1, le=8192, description="samples of a step; the last partial batch is kept")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(0.0, ge=0, le=10, description="L2 penalty of Table 3")
    schedule: Literal["constant", "cosine"] = Field("constant", description="cosine needs a number of epochs")


class Stop(StrictModel):
    """When a round ends: at `threshold` train accuracy, on a plateau, after `epochs`; always at `cap`."""

    threshold: float | None = Field(99.0, gt=0, le=100, description="train accuracy in percent that ends a round")
    strict: bool = Field(True, description="accuracy must exceed the threshold (two-phase) or may equal it (online)")
    epochs: int | None = Field(None, ge=1, description="fixed number of epochs instead of a threshold")
    plateau_epochs: int = Field(
        100, ge=1, description="epochs in which the best train accuracy must rise by `plateau_gain`"
    )
    plateau_gain: float = Field(0.1, ge=0, description="points of train accuracy that count as an improvement")
    cap: int = Field(1000, ge=1, description="epochs after which a round ends in any case")
    signal: Literal["authors_running", "running", "clean_eval"] = Field(
        "authors_running", description="train accuracy: the authors' windowed sum, the plain mean, or an eval pass"
    )


class Restart(StrictModel):
    """How the weights of a round are made from those at hand and a newly drawn network."""

    method: str = Field(
        "kept", pattern=r"^[a-z][a-z0-9_]*$", description="fresh, kept, or a file of bench/warmstart/methods"
    )
    shrink: float = Field(1.0, ge=0, le=1, description="lambda: factor on the weights at hand")
    perturb: float = Field(0.0, ge=0, description="s: factor on the fresh network, or size of Gaussian noise")
    noise: Literal["fresh", "gaussian"] = Field("fresh", description="a newly drawn network, or iid Gaussian noise")
    noise_is: Literal["variance", "std"] = Field("variance", description="how Gaussian noise of size `perturb` is read")
    norms: bool = Field(True, description="whether normalisation layers take part")
    layers: Literal["all", "last"] = Field("all", description="which layers are changed")
    strength: float | None = Field(
        None, ge=0, description="parameter of a method: weight of L2-init's penalty, DASH's alpha; None is its default"
    )

    def smoke(self) -> Restart:
        """The same with numbers that many runs share."""
        common = {"shrink": 0.5 if 0 < self.shrink < 1 else self.shrink}
        common |= {name: 0.1 for name in ("perturb", "strength") if getattr(self, name)}
        return self.model_copy(update=common)


FRESH = Restart(method="fresh")
KEPT = Restart()


class Round(StrictModel):
    """Samples that are fitted until the stopping rule holds."""

    samples: int = Field(
        ge=1, description="number of samples: the first ones of the fit split, in the order of the split"
    )
    start: Restart = Field(KEPT, description="how the weights are made before the round")
    trains: Literal["all", "last"] = Field("all", description="layers that are trained")
    repeats: int = Field(1, ge=1, description="number of rounds in a row, each with `grows` more samples")
    grows: int = Field(0, ge=0, description="samples added at each repetition")
    epochs: int | None = Field(None, ge=1, description="fixed number of epochs for this round, over the run's rule")
    least_epochs: int | None = Field(
        None, ge=1, description="epochs before which the run's rule does not end the round"
    )


class Penalty(StrictModel):
    """Regularisers of Table 3 beside weight decay; the paper does not say what the weight multiplies."""

    kind: Literal["none", "adversarial", "confidence"] = Field("none", description="FGSM cross-entropy or entropy")
    weight: float = Field(0.0, ge=0, description="weight of the penalty")
    fgsm_eps: float | None = Field(None, ge=0, description="step of FGSM in normalised units; None: the weight itself")


class Probe(StrictModel):
    """Measurements beside accuracy."""

    kind: Literal["none", "gradients", "shrinking", "correlation"] = Field(
        "none", description="gradient norms of old and new samples, accuracy under shrinking, correlation of weights"
    )
    old_samples: int = Field(0, ge=0, description="samples of the first phase, for gradients")
    every: int = Field(10, ge=1, description="steps averaged into one value, for gradients")
    grid: tuple[float, ...] = Field((), description="shrink factors")


class Training(RunSpec):
    """One run of the warm-start paper."""

    kind: ClassVar[str] = "warmstart"
    trainer: ClassVar[str] = "bench.warmstart.train"

    dataset: Dataset = Field("cifar10", description="data set")
    network: Network = Field(default_factory=Network, description="network")
    optimizer: Optimizer = Field(default_factory=Optimizer, description="optimiser")
    rounds: tuple[Round, ...] = Field(min_length=1, description="what is fitted, in order")
    stop: Stop = Field(default_factory=Stop, description="when a round ends")
    report: Literal["val_third", "official_test"] = Field(
        "val_third", description="accuracy on a third of the training set, or on the test set after fitting all of it"
    )
    population: int | None = Field(None, ge=3, description="number of training samples before the split; None is all")
    report_samples: int | None = Field(None, ge=1, description="most samples that accuracy is reported on")
    normalisation: Literal["2020", "2022"] = Field("2020", description="constants of the authors' first or second code")
    bn_buffers: Literal["keep", "reset"] = Field("keep", description="BatchNorm's running statistics at a new round")
    bn_statistics: BNStatistics = "running"
    penalty: Penalty = Field(default_factory=Penalty, description="regulariser")
    augment: bool = Field(False, description="random crop and flip; the paper has none")
    evaluate: Literal["rounds", "epochs"] = Field("rounds", description="report accuracy at each round or each epoch")
    probe: Probe = Field(default_factory=Probe, description="further measurements")
    keep_epochs: tuple[int, ...] = Field((), description="weights after these epochs are kept for children")
    leaves: bool = Field(False, description="whether the final weights are kept for children")
    start_from: str = Field("weights", description="artefact of the parent that the run starts from")
    precision: Literal["float32", "bf16"] = Field("float32", description="arithmetic of the forward and backward pass")
    generated: int | None = Field(
        None, ge=2, description="number of generated training samples in place of the data set"
    )
    parent: Training | None = Field(None, description="run whose weights this one starts from")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.optimizer.schedule == "cosine" and self.stop.epochs is None:
            raise ValueError("a cosine schedule needs stop.epochs, a fixed number of epochs")
        if max(r.samples + (r.repeats - 1) * r.grows for r in self.rounds) > self.fit_samples():
            raise ValueError(f"a round asks for more samples than the {self.fit_samples()} of the fit split")
        return self

    def shape(self) -> tuple[int, int, int]:
        return SHAPES[self.dataset][0]

    def classes(self) -> int:
        return SHAPES[self.dataset][1]

    def train_samples(self) -> int:
        """Training samples before the split."""
        available = self.generated or SHAPES[self.dataset][2]
        return min(available, self.population or available)

    def fit_samples(self) -> int:
        """Samples of the fit split: two thirds, rounded down, or all (bench/warmstart/protocol.md, section a)."""
        return int(2 * self.train_samples() / 3) if self.report == "val_third" else self.train_samples()

    def expanded(self) -> list[Round]:
        """The rounds one by one."""
        return [
            r.model_copy(update={"samples": r.samples + k * r.grows, "repeats": 1, "grows": 0})
            for r in self.rounds
            for k in range(r.repeats)
        ]

    def epochs_expected(self) -> float:
        """Epochs that a round takes, from calibration runs (bench/warmstart/protocol.md, section a)."""
        if self.stop.epochs is not None:
            return self.stop.epochs
        typical = {
            ("thin_resnet18", "sgd"): 190.0,
            ("thin_resnet18", "adam"): 30.0,
            ("resnet18", "sgd"): 60.0,
            ("resnet18", "adam"): 15.0,
            ("mlp", "sgd"): 950.0,
            ("mlp", "adam"): 400.0,
            ("logistic", "sgd"): 250.0,
            ("logistic", "adam"): 150.0,
        }[self.network.name, self.optimizer.name]
        # Measured at scales ci and small: Adam takes as many epochs at five times the rate, SGD a tenth at a hundred times.
        power = {"adam": 0.0, "sgd": 0.5}[self.optimizer.name] if "resnet" in self.network.name else 0.7
        faster = (1e-3 / self.optimizer.lr) ** power * (self.optimizer.batch_size / 128) ** 0.5
        return min(self.stop.cap, max(2.0, typical * faster))

    def _epochs_by_round(self) -> Iterator[tuple[Round, float]]:
        """The rounds one by one, with the epochs that each is expected to take."""
        for index, current in enumerate(self.expanded()):
            start = current.start
            warm = start.method != "fresh" and (index > 0 or self.parent is not None)
            # Kept weights take two fifths of the epochs of fresh ones; shrunk to three fifths they take as many.
            kept = start.shrink if start.method == "shrink_perturb" else 1.0
            share = min(1.0, 0.4 + 1.5 * (1 - kept)) if warm and self.stop.epochs is None else 1.0
            yield current, current.epochs or max(current.least_epochs or 0, self.epochs_expected() * share)

    def work(self) -> float:
        """Expected samples visited in training."""
        return sum(epochs * current.samples for current, epochs in self._epochs_by_round())

    def evaluated(self) -> float:
        """Expected samples that only pass forward: accuracies, and BatchNorm's statistics of the population."""
        held_out = self.train_samples() - self.fit_samples() if self.report == "val_third" else SHAPES[self.dataset][3]
        total = 0.0
        for current, epochs in self._epochs_by_round():
            once = min(held_out, self.report_samples or held_out)
            once += current.samples if self.bn_statistics == "population" else 0
            total += once * (1 + epochs * (self.evaluate == "epochs"))
            total += current.samples * epochs * (self.stop.signal == "clean_eval")
        if self.probe.kind == "shrinking":
            normalised = "resnet" in self.network.name and self.network.norm == "batch"
            samples = self.fit_samples() + min(held_out, self.report_samples or held_out)
            total += samples * len(self.probe.grid) * (2 if normalised else 1)
        return total

    def cost(self) -> Cost:
        samples = self.work()
        macs = self.network.macs(self.shape(), self.classes())
        extra = {"none": 1.0, "gradients": 2.5, "shrinking": 1.0, "correlation": 1.0}[self.probe.kind]
        extra *= 2.0 if self.penalty.kind == "adversarial" else 1.0
        if self.network.name in ("mlp", "logistic"):
            kind = "warmstart_mlp"
        elif macs < TINY_MACS:
            kind = "warmstart_tiny"
        else:
            kind = "warmstart_narrow" if macs < NARROW_MACS else f"warmstart_{self.precision}"
        # Forward and backward are three passes of two operations for each multiply-accumulate.
        flops = 2 * macs * (3 * samples * extra + self.evaluated())
        return Cost(samples, flops, "samples", kind, 2_500)

    def parameters(self) -> float:
        return self.network.parameters(self.shape(), self.classes())

    def label(self) -> str:
        start = self.rounds[-1].start
        method = start.method
        if method == "shrink_perturb":
            method = f"shrink {start.shrink:g} perturb {start.perturb:g}"
        rounds = self.expanded()
        count = f" in {len(rounds)} rounds" if len(rounds) > 1 else ""
        lr = "" if self.optimizer.lr == 1e-3 else f" lr {self.optimizer.lr:g}"
        return (
            f"warmstart {self.dataset} {self.network.name} {self.optimizer.name}{lr} {method} "
            f"{rounds[-1].samples} samples{count} seed {self.seed}"
        )

    def keeps(self) -> tuple[str, ...]:
        return (*(f"epoch-{epoch}" for epoch in self.keep_epochs), *(("weights",) if self.leaves else ()))

    def needs(self) -> tuple[str, ...]:
        return () if self.parent is None else (self.start_from,)

    def data(self) -> tuple[str, ...]:
        return () if self.generated else (self.dataset,)

    def code(self) -> tuple[str, ...]:
        from bench import models
        from bench.warmstart import methods

        names = {r.start.method for r in self.rounds} - {"fresh", "kept"}
        return (models.module_of(self.network.name), *(methods.module_of(name) for name in sorted(names)))

    def smoke(self) -> Training:
        """Two steps a round on two batches of generated samples; numbers that decide no code are the common ones."""
        batch = min(self.optimizer.batch_size, SMOKE_BATCH)
        optimizer = {"batch_size": batch, "lr": 1e-3, "weight_decay": 1e-4 if self.optimizer.weight_decay else 0.0}
        samples = 2 * batch if self.report == "official_test" else 3 * batch
        parent = None if self.parent is None else self.parent.smoke()
        # One round of each kind that the run has.
        distinct = {(r.start.method, r.trains): r for r in self.rounds}
        cut = {"samples": 2 * batch, "repeats": 1, "grows": 0, "epochs": 1, "least_epochs": None}
        rounds = tuple(r.model_copy(update={**cut, "start": r.start.smoke()}) for r in distinct.values())
        stop = self.stop.model_copy(update={"cap": 1, **({"epochs": 1} if self.stop.epochs else {})})
        kept = (1,) if self.keep_epochs else ()
        start = "epoch-1" if self.start_from.startswith("epoch-") else self.start_from
        old = batch if self.probe.old_samples else 0
        probe = self.probe.model_copy(update={"old_samples": old, "every": 1, "grid": self.probe.grid[:2]})
        penalty = self.penalty.model_copy(update={"weight": 0.1} if self.penalty.weight else {})
        return self.model_copy(
            update={
                "seed": 0,
                "generated": samples,
                "population": None,
                "report_samples": None,
                "optimizer": self.optimizer.model_copy(update=optimizer),
                "penalty": penalty,
                "rounds": rounds,
                "stop": stop,
                "keep_epochs": kept,
                "start_from": start,
                "probe": probe,
                "parent": parent,
            }
        )
