"""The trainer of the warm-start paper: rounds of fitting, each from weights made of the last round's.

Two-phase training, online learning, transfer and repeated shrinking are lists of rounds (`bench.warmstart.spec`).
A run is a generator that asks for one step at a time, so that it can be driven alone or together with others.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import seeds
from bench.errors import FailedRun
from bench.run import Result
from bench.training.samples import EVAL_BATCH, Pool, accuracy, population_statistics
from bench.training.step import TrainStep
from bench.warmstart import methods, probes, stopping
from bench.warmstart.losses import make_loss
from bench.warmstart.shrink import last_layer
from bench.warmstart.spec import Round, Training
from bench.warmstart.weights import copies, draw_network, load_matching, reset_buffers

if TYPE_CHECKING:
    from bench.training.context import Context

CONSTANTS = {
    "2020": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "2022": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Normalisation by release of the authors' code, the same for all data sets (protocol, Data)."""


@dataclass
class Split:
    """Samples to fit, in the split's own order, and samples to report on."""

    fit: Pool
    report: Pool


def make_split(spec: Training, context: Context) -> Split:
    """Loads the data set and splits it: the same for every run of one data set and seed."""
    from bench.data import images

    if spec.generated:
        data = images.generated(spec.shape(), spec.classes(), train=spec.generated, test=spec.optimizer.batch_size)
    else:
        data = images.load(spec.dataset, context.data_root)
        context.used_data(data.name, data.checksum)
    order = torch.randperm(len(data.train), generator=seeds.generator("warmstart", spec.dataset, "split", spec.seed))
    order = order[: spec.train_samples()]
    fit, rest = order[: spec.fit_samples()], order[spec.fit_samples() :]
    mean, std = CONSTANTS[spec.normalisation]
    pool = partial(
        Pool.make, mean=mean, std=std, device=context.device, channels_last=spec.network.name.endswith("resnet18")
    )
    held, held_labels = data.train, data.train_labels
    if spec.report == "official_test":
        held, held_labels, rest = data.test, data.test_labels, torch.arange(len(data.test))
    rest = rest[: spec.report_samples]
    return Split(pool(data.train[fit], data.train_labels[fit]), pool(held[rest], held_labels[rest]))


def make_optimizer(spec: Training, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    chosen = spec.optimizer
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    if chosen.name == "adam":
        return torch.optim.Adam(parameters, lr=chosen.lr, weight_decay=chosen.weight_decay, fused=fused)
    return torch.optim.SGD(
        parameters, lr=chosen.lr, momentum=chosen.momentum, weight_decay=chosen.weight_decay, fused=fused
    )


EPOCH_COLUMNS = ("round", "epoch", "train_acc", "samples", "report_acc")
ROUND_COLUMNS = ("n_samples", "report_acc", "train_acc", "epochs", "steps", "samples", "seconds", "stop_rule")
MOST_EPOCH_ROWS = 3000
"""Epoch rows that fit into a record; longer trainings keep every k-th."""


@dataclass
class Progress:
    """Everything that training goes on from; plain values and tensors only."""

    round: int = 0
    epoch: int = 0
    samples: int = 0
    steps: int = 0
    accuracies: list[float] = field(default_factory=list)
    epochs: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in EPOCH_COLUMNS})
    rounds: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in ROUND_COLUMNS})
    probe: dict[str, list[Any]] = field(default_factory=dict)
    seconds: float = 0.0
    model: dict[str, Tensor] | None = None
    optimizer: dict[str, Any] | None = None
    round_samples: int = 0
    round_steps: int = 0
    round_seconds: float = 0.0


@dataclass(frozen=True)
class Batch:
    """What one step fits: float32 [B, C, H, W] and int64 [B]."""

    images: Tensor
    labels: Tensor


Course = Generator[Batch, tuple[Tensor, Tensor], Result]
"""Gives the batch of the next step and takes its (loss, right answers), both scalars on the device; ends in the outcome."""


class Trainer:
    """One run: `course` goes round by round and epoch by epoch, saving at every epoch; `fit` drives it alone.

    Attributes:
        model: the network; whoever drives the course changes its parameters and running statistics in place.
        optimizer: of the round at hand, a new object at each round.
        now: the round at hand.

    Args:
        spec: the run.
        context: its surroundings.
        split: its samples, where they are there already.
    """

    optimizer: torch.optim.Optimizer
    now: Round

    def __init__(self, spec: Training, context: Context, split: Split | None = None):
        self.spec, self.context = spec, context
        self.split = make_split(spec, context) if split is None else split
        self.rounds = spec.expanded()
        self.done = Progress(**(context.resume() or {}))
        self.model = draw_network(spec, "first").to(context.device)
        self.initial = copies(self.model)
        if self.split.fit.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if spec.parent is not None:
            load_matching(self.model, context.parent_tensors(spec.start_from))
        self.before = copies(self.model)
        if self.done.model is not None:
            self.model.load_state_dict(self.done.model)
        self.steps: dict[tuple[str, float, str], TrainStep] = {}

    def fit(self) -> Result:
        """Trains the run alone."""
        course = self.course()
        try:
            batch = next(course)
            while True:
                loss, logits = self._step(self.now)(batch.images, batch.labels, self.optimizer)
                batch = course.send((loss, (logits.argmax(1) == batch.labels).sum()))
        except StopIteration as end:
            return end.value

    def course(self) -> Course:
        """The run from where it stands to its outcome.

        Raises:
            FailedRun: the loss of an epoch is not finite.
            OutOfTime: the time budget is over and the state saved.
        """
        while self.done.round < len(self.rounds):
            yield from self._round(self.rounds[self.done.round])
        return self._outcome()

    def _round(self, one: Round) -> Generator[Batch, tuple[Tensor, Tensor], None]:
        done = self.done
        self.now = one
        self.model.requires_grad_(True)
        if done.epoch == 0:
            self._restart(one)
        trained = self.model if one.trains == "all" else last_layer(self.model)
        self.model.requires_grad_(False)
        trained.requires_grad_(True)
        optimizer = make_optimizer(self.spec, list(trained.parameters()))
        if done.optimizer is not None:
            optimizer.load_state_dict(done.optimizer)
            done.optimizer = None
        self.optimizer = optimizer
        rule = stopping.fired(self.spec.stop, done.accuracies, one.epochs) if done.accuracies else None
        while rule is None:
            yield from self._epoch(one, optimizer)
            rule = stopping.fired(self.spec.stop, done.accuracies, one.epochs)
            if rule is None:
                self.context.checkpoint(lambda: self._state(optimizer))
        self._finish_round(one, rule)
        self.context.checkpoint(lambda: self._state(None))

    def _restart(self, one: Round) -> None:
        """Makes the round's weights; equal in all runs that share seed, round and samples."""
        start = one.start
        names = (self.spec.dataset, self.spec.network.name, self.done.round)
        if start.method == "fresh":
            # The first round's fresh network is the one that the run was built with.
            if self.done.round > 0 or self.spec.parent is not None:
                self.model.load_state_dict(draw_network(self.spec, *names).state_dict())
        elif start.method != "kept":
            method = methods.load(start.method)
            fresh = draw_network(self.spec, *names)
            generator = seeds.generator("warmstart", "noise", self.spec.seed, *names)
            method.restart(methods.Point(self.model, fresh, start, generator, lambda: self._mean_gradient(one.samples)))
        if self.spec.bn_buffers == "reset":
            reset_buffers(self.model)
        self.model.train()

    @torch.enable_grad()
    def _mean_gradient(self, samples: int) -> dict[str, Tensor]:
        self.model.zero_grad()
        device = self.context.device
        for begin in range(0, samples, EVAL_BATCH):
            images, labels = self.split.fit.take(torch.arange(begin, min(begin + EVAL_BATCH, samples), device=device))
            (F.cross_entropy(self.model(images), labels, reduction="sum") / samples).backward()
        gradient = {
            name: tensor.grad.detach().clone()
            for name, tensor in self.model.named_parameters()
            if tensor.grad is not None
        }
        self.model.zero_grad()
        return gradient

    def _step(self, one: Round) -> TrainStep:
        """The step of a round; rounds that minimise the same and train the same layers share it."""
        kind = (one.start.method, one.start.strength, one.trains)
        if kind not in self.steps:
            method = methods.load(one.start.method) if one.start.method not in ("fresh", "kept") else None
            penalty = getattr(method, "penalty", None)
            pull = None if penalty is None else partial(penalty, initial=self.initial, strength=one.start.strength)
            self.steps[kind] = TrainStep(
                self.model,
                loss=make_loss(self.spec.penalty, pull),
                batch_size=self.spec.optimizer.batch_size,
                precision=self.spec.precision,
                compile=self.context.compile,
                expected_steps=self.spec.work() / self.spec.optimizer.batch_size,
            )
        return self.steps[kind]

    def _epoch(self, one: Round, optimizer: torch.optim.Optimizer) -> Generator[Batch, tuple[Tensor, Tensor], None]:
        spec, done, device = self.spec, self.done, self.context.device
        started = time.perf_counter()
        size = spec.optimizer.batch_size
        names = ("warmstart", "order", spec.dataset, spec.seed, one.samples, done.round, done.epoch)
        order = torch.randperm(one.samples, generator=seeds.generator(*names)).to(device)
        self._set_lr(optimizer)
        crop = self._augmenter(names)
        self.model.train()
        hits: list[Tensor] = []
        worst = torch.zeros((), device=device)
        for begin in range(0, one.samples, size):
            index = order[begin : begin + size]
            images, labels = self.split.fit.take(index)
            if spec.probe.kind == "gradients":
                is_old, of_batch = index < spec.probe.old_samples, spec.bn_statistics == "population"
                probes.gradient_norms(self.model, images, labels, is_old, done.probe, batch_statistics=of_batch)
            loss, right = yield Batch(crop(images), labels)
            hits.append(right)
            worst = worst + loss
        if not math.isfinite(float(worst)):
            why = f"the loss is {float(worst)} in epoch {done.epoch + 1}"
            raise FailedRun(spec.label(), done.steps + len(hits), why)
        done.epoch += 1
        done.samples += one.samples
        done.steps += len(hits)
        done.round_samples += one.samples
        done.round_steps += len(hits)
        train_acc = self._train_accuracy(torch.stack(hits).tolist(), one.samples)
        done.accuracies.append(train_acc)
        self._keep()
        spent = time.perf_counter() - started
        done.seconds += spent
        done.round_seconds += spent
        report = self._report_accuracy(one) if spec.evaluate == "epochs" else 0.0
        row = (done.round, done.epoch, round(train_acc, 4), done.samples, round(report, 4))
        for name, value in zip(EPOCH_COLUMNS, row, strict=True):
            done.epochs[name].append(value)
        expected = max(spec.work(), done.samples)
        self.context.progress(
            done.samples, expected, "samples", round=done.round + 1, epoch=done.epoch, train=train_acc
        )

    def _augmenter(self, names: tuple[Any, ...]) -> Callable[[Tensor], Tensor]:
        if not self.spec.augment:
            return lambda images: images
        from bench.data.augment import crop_and_flip

        generator = seeds.generator(*names, "augment")
        padding = max(1, round(self.spec.shape()[1] / 8))  # 4 of 32 pixels
        return lambda images: crop_and_flip(images, padding=padding, generator=generator)

    def _set_lr(self, optimizer: torch.optim.Optimizer) -> None:
        """The cosine of the modern recipe, by epoch of the round; the paper's rate is constant."""
        chosen, epochs = self.spec.optimizer, self.spec.stop.epochs
        if chosen.schedule == "cosine" and epochs is not None:
            for group in optimizer.param_groups:
                group["lr"] = chosen.lr * 0.5 * (1 + math.cos(math.pi * self.done.epoch / epochs))

    def _train_accuracy(self, correct: list[int], samples: int) -> float:
        size = self.spec.optimizer.batch_size
        seen = [min(size, samples - begin) for begin in range(0, samples, size)]
        if self.spec.stop.signal == "authors_running":
            return stopping.authors_accuracy(correct, seen)
        if self.spec.stop.signal == "running":
            return stopping.running_accuracy(correct, seen)
        return accuracy(self.model, self.split.fit, samples)

    def _report_accuracy(self, one: Round) -> float:
        if self.spec.bn_statistics == "population":
            population_statistics(self.model, self.split.fit, self.spec.optimizer.batch_size, one.samples)
        return accuracy(self.model, self.split.report)

    def _keep(self) -> None:
        if self.done.epoch in self.spec.keep_epochs:
            self.context.keep(f"epoch-{self.done.epoch}", self.model.state_dict())

    def _finish_round(self, one: Round, rule: str) -> None:
        done = self.done
        report = self._report_accuracy(one)
        row = (
            one.samples,
            report,
            done.accuracies[-1],
            done.epoch,
            done.round_steps,
            done.round_samples,
            round(done.round_seconds, 3),
            rule,
        )
        for name, value in zip(ROUND_COLUMNS, row, strict=True):
            done.rounds[name].append(value)
        done.round += 1
        done.epoch, done.accuracies = 0, []
        done.round_samples = done.round_steps = 0
        done.round_seconds = 0.0

    def _state(self, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
        state = dict(vars(self.done))
        # Copies, since tensors may be parts of larger ones, which would be saved whole.
        state["model"] = detached(self.model.state_dict())
        state["optimizer"] = None if optimizer is None else detached(optimizer.state_dict())
        return state

    def _outcome(self) -> Result:
        done, spec = self.done, self.spec
        for epoch in spec.keep_epochs:
            # Training ended before this epoch: its last weights are what the epoch would have started from.
            if f"epoch-{epoch}" not in self.context.kept:
                self.context.keep(f"epoch-{epoch}", self.model.state_dict())
        if spec.leaves:
            self.context.keep("weights", self.model.state_dict())
        metrics = {
            "report_acc": done.rounds["report_acc"][-1],
            "train_acc": done.rounds["train_acc"][-1],
            "samples": float(done.samples),
            "steps": float(done.steps),
        }
        series = {"epochs": thinned(done.epochs), "rounds": done.rounds}
        if spec.probe.kind == "gradients":
            series["gradients"] = probes.averaged(done.probe, spec.probe.every)
        if spec.probe.kind == "shrinking":
            series["shrinking"] = probes.shrinking(self.model, self.split.fit, self.split.report, spec.probe.grid)
        if spec.probe.kind == "correlation":
            metrics |= probes.correlation(self.before, dict(self.model.named_parameters()))
        costs = {"samples": float(done.samples), "steps": float(done.steps), "seconds": round(done.seconds, 3)}
        rules = {rule: done.rounds["stop_rule"].count(rule) for rule in sorted(set(done.rounds["stop_rule"]))}
        return Result(metrics, series, costs, {"stop_rules": rules})


def detached(value: Any) -> Any:
    """A state with its tensors copied; dictionaries and lists are gone through."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: detached(part) for name, part in value.items()}
    return [detached(part) for part in value] if isinstance(value, list) else value


def thinned(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """At most `MOST_EPOCH_ROWS` rows, evenly spaced, the last one included."""
    rows = len(next(iter(columns.values())))
    stride = max(1, math.ceil(rows / MOST_EPOCH_ROWS))
    keep = sorted({*range(0, rows, stride), rows - 1})
    return {name: [values[row] for row in keep] for name, values in columns.items()}


def train(spec: Training, context: Context) -> Result:
    """Trains one run; resumes where an interrupted attempt stopped.

    Raises:
        FailedRun: the loss is not finite.
        OutOfTime: the time budget is over and the state saved.
    """
    return Trainer(spec, context).fit()
