"""What exhibits of this paper share: settings with the paper's values, two-phase and online runs, rows of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from bench.errors import UserError
from bench.exhibit import ArmRun, ExhibitSettings, Row, row
from bench.record import Record
from bench.warmstart.spec import (
    FRESH,
    KEPT,
    SHAPES,
    BNStatistics,
    Dataset,
    Network,
    Optimizer,
    Probe,
    Restart,
    Round,
    Stop,
    Training,
)

Role = Literal["cifar10", "cifar100", "svhn"]
"""A data set of the paper; at a reduced scale another one may stand in for it."""

RI, WS, SP = "random_init", "warm_start", "shrink_perturb"
NAMES = {RI: "random init", WS: "warm start", SP: "shrink perturb", "phase1_half": "first half"}
"""The paper's names of the methods, for legends."""

MODELS = {"thin_resnet18": "ResNet", "mlp": "MLP", "logistic": "LR"}
DATASETS = {"cifar10": "CIFAR-10", "svhn": "SVHN", "cifar100": "CIFAR-100"}


class WarmstartSettings(ExhibitSettings):
    """Settings that every exhibit of this paper has; tags as in the protocol."""

    stand_in: dict[Role, Dataset] = Field(
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

    def dataset(self, role: Role) -> Dataset:
        return self.stand_in.get(role, role)

    def train_samples(self, role: Role) -> int:
        whole = SHAPES[self.dataset(role)][2]
        return min(whole, self.population or whole)

    def fit_samples(self, role: Role, report: str = "val_third") -> int:
        """Samples of the fit split: int(2N/3), or all of them with the official test set [C]."""
        samples = self.train_samples(role)
        return int(2 * samples / 3) if report == "val_third" else samples

    def network(self, name: str, *, online: bool = False) -> Network:
        """A network as the authors use it: the MLP has tanh in two-phase and ReLU in online runs [C]."""
        if name == "mlp":
            return Network(name="mlp", activation="relu" if online else "tanh")
        if name == "logistic":
            return Network(name="logistic")
        return Network(name=name, width=self.width)

    def optimizer(self, name: str, **changes: Any) -> Optimizer:
        lr = self.sgd_lr if name == "sgd" else self.adam_lr
        return Optimizer(**{"name": name, "lr": lr, "batch_size": self.batch_size, **changes})

    def stop(self, network: str, *, online: bool = False, **changes: Any) -> Stop:
        """99 %, a plateau or the cap; exceeded in two-phase, reached in online runs [C]."""
        caps = {"mlp": self.mlp_cap, "logistic": self.logistic_cap}
        chosen = {
            "threshold": self.threshold,
            "strict": not online,
            "plateau_epochs": self.plateau_epochs,
            "cap": caps.get(network, self.resnet_cap),
            "signal": self.signal,
        }
        return Stop(**{**chosen, **changes})

    def training(self, role: Role, network: str, optimizer: str | Optimizer, seed: int, **fields: Any) -> Training:
        """A run with the paper's surroundings; `fields` override them. An optimiser by name has the settings' rate."""
        online = bool(fields.pop("online", False))
        chosen = {
            "seed": seed,
            "dataset": self.dataset(role),
            "network": self.network(network, online=online),
            "optimizer": self.optimizer(optimizer) if isinstance(optimizer, str) else optimizer,
            "stop": self.stop(network, online=online),
            "population": self.population,
            "report_samples": self.report_samples,
            "normalisation": self.normalisation,
            "precision": self.precision,
            "bn_statistics": self.bn_statistics,
            "bn_buffers": "reset" if online else "keep",
        }
        return Training(**{**chosen, **fields})


def first_phase(
    settings: WarmstartSettings, role: Role, network: str, optimizer: str | Optimizer, seed: int, **fields: Any
) -> Training:
    """Half of the fit split from fresh weights; leaves its weights."""
    half = settings.fit_samples(role, fields.get("report", "val_third")) // 2
    rounds = (Round(samples=half, start=FRESH),)
    return settings.training(role, network, optimizer, seed, rounds=rounds, leaves=True, **fields)


def random_init(
    settings: WarmstartSettings, role: Role, network: str, optimizer: str | Optimizer, seed: int, **fields: Any
) -> Training:
    """The whole fit split from fresh weights (RI)."""
    samples = settings.fit_samples(role, fields.get("report", "val_third"))
    rounds = (Round(samples=samples, start=FRESH),)
    return settings.training(role, network, optimizer, seed, rounds=rounds, **fields)


def second_phase(
    settings: WarmstartSettings,
    role: Role,
    network: str,
    optimizer: str | Optimizer,
    seed: int,
    *,
    start: Restart = KEPT,
    parent: Training | None = None,
    **fields: Any,
) -> Training:
    """The whole fit split from the first phase's weights: a warm start (WS), or what `start` makes of them."""
    samples = settings.fit_samples(role, fields.get("report", "val_third"))
    above = parent or first_phase(settings, role, network, optimizer, seed, **fields)
    rounds = (Round(samples=samples, start=start),)
    return settings.training(role, network, optimizer, seed, rounds=rounds, parent=above, **fields)


def online_rounds(fit: int, increment: int, start: Restart, first: Restart = FRESH) -> tuple[Round, ...]:
    """Rounds that add `increment` samples each until all are there: 33 x 1,000 and 333 more for CIFAR-10 [P, C].

    Args:
        fit: samples of the fit split.
        increment: samples added in a round.
        start: how the weights of every round but the first are made.
        first: how those of the first round are made.

    Raises:
        UserError: there are fewer samples than the first round adds.
    """
    if increment > fit:
        raise UserError(f"increment {increment}: expected at most the {fit} samples of the fit split")
    full, rest = divmod(fit, increment)
    rounds = [Round(samples=increment, start=first)]
    if full > 1:
        rounds.append(Round(samples=2 * increment, start=start, repeats=full - 1, grows=increment))
    if rest:
        rounds.append(Round(samples=fit, start=start))
    return tuple(rounds)


def shrink_start(shrink: float, perturb: float, **changes: Any) -> Restart:
    """Shrink perturb with a fresh network; (1, 0) is the warm start and (0, 1) random initialisation, trained once."""
    if not changes and (shrink, perturb) == (1, 0):
        return KEPT
    if not changes and (shrink, perturb) == (0, 1):
        return FRESH
    return Restart(method="shrink_perturb", shrink=shrink, perturb=perturb, **changes)


def noise_start(size: float, noise_is: Literal["variance", "std"] = "variance") -> Restart:
    """A warm start plus iid Gaussian noise of one size on all parameters, without shrinking (Table 4)."""
    if not size:
        return KEPT
    return Restart(method="shrink_perturb", shrink=1.0, perturb=size, noise="gaussian", noise_is=noise_is)


def online(
    settings: WarmstartSettings,
    role: Role,
    network: str,
    optimizer: str | Optimizer,
    seed: int,
    *,
    increment: int,
    start: Restart,
    first: Restart = FRESH,
    **fields: Any,
) -> Training:
    """Online learning (Figure 2): `increment` more samples a round, each round from what `start` makes of the last."""
    fit = settings.fit_samples(role, fields.get("report", "val_third"))
    rounds = online_rounds(fit, increment, start, first)
    return settings.training(role, network, optimizer, seed, rounds=rounds, online=True, **fields)


def online_shrink(
    settings: WarmstartSettings,
    role: Role,
    network: str,
    optimizer: str | Optimizer,
    seed: int,
    *,
    increment: int,
    shrink: float,
    perturb: float,
    first_round: bool = True,
    **fields: Any,
) -> Training:
    """Online shrink perturb (Figures 7 and 8); (0, 1) and (1, 0) are the two runs of Figure 2.

    Args:
        first_round: whether the very first network is shrunk and perturbed too, as the authors' code does [C].
    """
    start = shrink_start(shrink, perturb)
    first = start if first_round and start.method == "shrink_perturb" else FRESH
    return online(settings, role, network, optimizer, seed, increment=increment, start=start, first=first, **fields)


def samples_of(fit: int, fraction: float) -> int:
    """So much of a fit split, rounded to whole samples.

    Raises:
        UserError: the fraction leaves a round without samples.
    """
    samples = round(fraction * fit)
    if not 1 <= samples <= fit:
        raise UserError(
            f"fraction {fraction:g} of {fit} samples leaves a round of {samples}; expected 1 to {fit} samples: "
            "a fraction up to 1, or a larger `population`"
        )
    return samples


TRANSFER: dict[str, Any] = {"report": "official_test"}
"""Figure 9's levels are those of all training samples and the test set [D]."""


def transfer_source(
    settings: WarmstartSettings, role: Role, seed: int, *, network: str = "thin_resnet18", optimizer: str = "adam"
) -> Training:
    """The source of a transfer: all of its training set from fresh weights, to convergence."""
    return random_init(settings, role, network, optimizer, seed, leaves=True, **TRANSFER)


def transfer(
    settings: WarmstartSettings,
    source: Role,
    target: Role,
    fraction: float,
    seed: int,
    *,
    start: Restart,
    network: str = "thin_resnet18",
    optimizer: str = "adam",
    **fields: Any,
) -> Training:
    """A fraction of the target, from what `start` makes of the source's weights (Figure 9).

    The classifier is drawn anew where the numbers of classes differ [O]. From fresh weights there is no source.
    """
    samples = samples_of(settings.fit_samples(target, TRANSFER["report"]), fraction)
    above = None if start == FRESH else transfer_source(settings, source, seed, network=network, optimizer=optimizer)
    rounds = (Round(samples=samples, start=start),)
    return settings.training(target, network, optimizer, seed, rounds=rounds, parent=above, **TRANSFER, **fields)


def two_phases(
    settings: WarmstartSettings, role: Role, network: str, first: Optimizer, second: Optimizer, seed: int
) -> Training:
    """A warm start whose phases have optimisers of their own (Figure 3); weights before and after are correlated (11)."""
    parent = first_phase(settings, role, network, first, seed)
    return second_phase(settings, role, network, second, seed, parent=parent, probe=Probe(kind="correlation"))


def accuracy_row(member: ArmRun, record: Record, metric: str = "val_acc") -> Row:
    """Accuracy of the final model, in percent, on the samples that the run reports on."""
    return row(member, metric, record.metrics["report_acc"])


def final_rows(member: ArmRun, record: Record, metric: str = "val_acc") -> Iterable[Row]:
    """Accuracy and cost of a two-phase or fresh run: percent, samples to the stop, seconds."""
    yield accuracy_row(member, record, metric)
    yield row(member, "samples_to_stop", record.costs["samples"])
    if record.alone:
        yield row(member, "train_time_s", record.costs["seconds"])
    yield row(member, "train_acc_final", record.metrics["train_acc"])


def round_rows(member: ArmRun, record: Record, **panels: str) -> Iterable[Row]:
    """Accuracy, samples and seconds by round of an online run, at the sample counts of the paper's x axis.

    Args:
        member: names the numbers.
        record: of the run; seconds are given when it had the machine to itself.
        panels: ``accuracy`` and ``cost``, the names of the figure's panels.
    """
    accuracy_labels = {"panel": panels["accuracy"]} if panels else {}
    cost_labels = {"panel": panels["cost"]} if panels else {}
    rounds = record.series["rounds"]
    for samples, accuracy, visited, seconds in zip(
        rounds["n_samples"], rounds["report_acc"], rounds["samples"], rounds["seconds"], strict=True
    ):
        at = {"x_name": "n_samples", "x": samples}
        yield row(member, "val_acc", accuracy, **at, **accuracy_labels)
        yield row(member, "samples_round", visited, **at, **cost_labels)
        if record.alone:
            yield row(member, "train_time_round", seconds, **at, **cost_labels)
    yield row(member, "samples_total", record.costs["samples"])
    if record.alone:
        yield row(member, "train_time_total", record.costs["seconds"], **cost_labels)


def round_cost(frame: Any) -> tuple[str, str]:
    """Metric and axis label of a round's cost: seconds where every run had the machine to itself, samples otherwise."""
    timed, all_runs = (set(frame[frame["metric"] == name]["key"]) for name in ("train_time_round", "samples_round"))
    if timed and timed == all_runs:
        return "train_time_round", "training time of a round (s)"
    return "samples_round", "samples visited in a round"


def last_round(frame: Any) -> float:
    """The largest number of samples of an online run."""
    return float(frame[frame["x_name"] == "n_samples"]["x"].max())


def substitution(settings: WarmstartSettings, role: Role) -> str:
    """The data set's name for titles, with what stands in for it."""
    actual = settings.dataset(role)
    return DATASETS[role] if actual == role else f"{DATASETS[role]} (generated images)"
