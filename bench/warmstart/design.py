"""The experimental design of this paper: settings with its values, setups and arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from bench.exhibit import Arm, ExhibitSettings
from bench.warmstart.spec import SHAPES, BNStatistics, Dataset, Network, Optimizer, Stop, Training

PaperDataset = Literal["cifar10", "cifar100", "svhn"]
"""A data set of the paper; at a reduced scale another one may stand in for it."""

OptimizerName = Literal["sgd", "adam"]
Shrink = Annotated[float, Field(ge=0, le=1)]
"""lambda of shrink perturb."""
Perturb = Annotated[float, Field(ge=0)]
"""s of shrink perturb."""

RI, WS, SP = "random_init", "warm_start", "shrink_perturb"
FIRST = "phase1_half"
NAMES = {
    RI: "random init",
    WS: "warm start",
    SP: "shrink perturb",
    FIRST: "first half",
    "thin_resnet18": "ResNet",
    "mlp": "MLP",
    "logistic": "LR",
    "cifar10": "CIFAR-10",
    "svhn": "SVHN",
    "cifar100": "CIFAR-100",
    "sgd": "SGD",
    "adam": "Adam",
}
"""Label -> the paper's name of a method, model, data set or optimiser."""


@dataclass(frozen=True)
class Setup:
    """Data set, network and optimiser of a run; by default those of most exhibits.

    Attributes:
        dataset: of the paper.
        model: a network by its name, as the authors use it, or with options.
        optimizer: by its name, with the learning rate of the settings, or with options.
    """

    dataset: PaperDataset = "cifar10"
    model: str | Network = "thin_resnet18"
    optimizer: str | Optimizer = "sgd"

    def labels(self) -> dict[str, str]:
        """Labels of the numbers of its runs."""
        model, optimizer = (part if isinstance(part, str) else part.name for part in (self.model, self.optimizer))
        return {"dataset": self.dataset, "model": model, "optimizer": optimizer}


ONLINE = Setup(optimizer="adam")
"""Figure 2's."""


class WarmstartSettings(ExhibitSettings):
    """Settings that every exhibit of this paper has; their tags are those of bench/warmstart/protocol.md."""

    stand_in: dict[PaperDataset, Dataset] = Field(
        default_factory=dict, description="data set of the paper -> data set that stands in for it at this scale"
    )
    population: int | None = Field(None, ge=30, description="training samples in all; None is the whole set [C]")
    report_samples: int | None = Field(None, ge=1, description="samples that accuracy is reported on at most")
    width: int | None = Field(None, ge=8, description="first width of the ResNet; None is the authors' 16 [C]")
    sgd_lr: float = Field(1e-3, gt=0, le=1, description="learning rate of SGD [C]")
    adam_lr: float = Field(1e-3, gt=0, le=1, description="learning rate of Adam [C]")
    batch_size: int = Field(128, ge=1, description="samples of a step [C]")
    threshold: float = Field(99.0, gt=0, le=100, description="train accuracy in percent that ends a round [P]")
    signal: Literal["authors_running", "running", "clean_eval"] = Field(
        "authors_running", description="train accuracy that the threshold looks at [C]"
    )
    plateau_epochs: int = Field(100, ge=1, description="a round also ends when the best train accuracy rose < 0.1 [O]")
    resnet_cap: int = Field(1000, ge=1, description="most epochs of a ResNet round [O]")
    mlp_cap: int = Field(2000, ge=1, description="most epochs of an MLP round [O]")
    logistic_cap: int = Field(350, ge=1, description="most epochs of logistic regression [O]")
    normalisation: Literal["2020", "2022"] = Field("2020", description="constants of the authors' first code [C]")
    bn_statistics: BNStatistics = "running"
    precision: Literal["float32", "bf16"] = Field("float32", description="arithmetic of training")

    def actual(self, dataset: PaperDataset) -> Dataset:
        """The data set that is used for one of the paper at this scale."""
        return self.stand_in.get(dataset, dataset)

    def train_samples(self, dataset: PaperDataset) -> int:
        whole = SHAPES[self.actual(dataset)][2]
        return min(whole, self.population or whole)

    def fit_samples(self, dataset: PaperDataset, report: str = "val_third") -> int:
        """Samples of the fit split: int(2N/3), or all of them with the official test set [C]."""
        samples = self.train_samples(dataset)
        return int(2 * samples / 3) if report == "val_third" else samples

    def reported_samples(self, dataset: PaperDataset, report: str = "val_third") -> int:
        """Samples that accuracy is reported on: of the third that is held out, or of the official test set."""
        held_out = self.train_samples(dataset) - self.fit_samples(dataset)
        samples = held_out if report == "val_third" else SHAPES[self.actual(dataset)][3]
        return min(samples, self.report_samples or samples)

    def classes(self, dataset: PaperDataset) -> int:
        return SHAPES[self.actual(dataset)][1]

    def network(self, name: str, *, online: bool = False) -> Network:
        """A network as the authors use it: the MLP has tanh in two-phase and ReLU in online runs [C]."""
        if name == "mlp":
            return Network(name="mlp", activation="relu" if online else "tanh")
        if name == "logistic":
            return Network(name="logistic")
        return Network(name=name, width=self.width)

    def optimizer(self, name: str, **changes: Any) -> Optimizer:
        """An optimiser with the learning rate and batch size of these settings, unless `changes` say otherwise."""
        lr = self.sgd_lr if name == "sgd" else self.adam_lr
        return Optimizer(**{"name": name, "lr": lr, "batch_size": self.batch_size, **changes})

    def stop(self, model: str = "thin_resnet18", *, online: bool = False, **changes: Any) -> Stop:
        """99 %, a plateau or the cap; exceeded in two-phase, reached in online runs [C]."""
        caps = {"mlp": self.mlp_cap, "logistic": self.logistic_cap}
        rule = {
            "threshold": self.threshold,
            "strict": not online,
            "plateau_epochs": self.plateau_epochs,
            "cap": caps.get(model, self.resnet_cap),
            "signal": self.signal,
        }
        return Stop(**{**rule, **changes})

    def training(self, setup: Setup, seed: int, *, online: bool = False, **fields: Any) -> Training:
        """A run of a setup with the surroundings of these settings; `fields` override them."""
        network, optimizer = setup.model, setup.optimizer
        if isinstance(network, str):
            network = self.network(network, online=online)
        run = {
            "seed": seed,
            "dataset": self.actual(setup.dataset),
            "network": network,
            "optimizer": self.optimizer(optimizer) if isinstance(optimizer, str) else optimizer,
            "stop": self.stop(network.name, online=online),
            "population": self.population,
            "report_samples": self.report_samples,
            "normalisation": self.normalisation,
            "precision": self.precision,
            "bn_statistics": self.bn_statistics,
            "bn_buffers": "reset" if online else "keep",
        }
        return Training(**{**run, **fields})


Build = Callable[..., Training]
"""(settings, setup, seed, options) -> a run."""


def arm(build: Build, settings: WarmstartSettings, setup: Setup, labels: Mapping[str, Any], **options: Any) -> Arm:
    """An arm whose runs `build` makes with these options, under the labels of its setup and its own.

    Args:
        build: such as `random_init`.
        settings: of the exhibit.
        setup: data set, network and optimiser.
        labels: add to those of the setup, or replace them; ``None`` takes one away.
        options: keyword arguments of `build`.
    """
    named = {name: label for name, label in {**setup.labels(), **labels}.items() if label is not None}
    return Arm(named, partial(build, settings, setup, **options))
